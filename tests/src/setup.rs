//! Finds what `tests/setup/setup.sh` has installed for the tests, and free ports.

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rand::Rng;

/// The scripts and inputs of the setup, in the checkout.
pub fn scripts() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/setup"))
}

/// The class path of Apache Kafka: broker and console tools.
pub fn kafka_class_path() -> Result<String> {
    let libs = installed("kafka/libs")?;
    Ok(format!("{}/*", libs.display()))
}

/// The folder of the schema registry's program.
pub fn registry_app() -> Result<PathBuf> {
    installed("registry/app")
}

/// The S3 API server.
pub fn versitygw() -> Result<PathBuf> {
    installed("versitygw/versitygw")
}

/// A Python with the independent Delta readers.
pub fn python() -> Result<PathBuf> {
    installed("venv/bin/python")
}

/// A Python with an API server of AWS, and its client.
pub fn moto() -> Result<PathBuf> {
    installed("moto/bin/python")
}

/// A Python with ClickHouse (chdb).
pub fn clickhouse() -> Result<PathBuf> {
    installed("infra/bi/bin/python")
}

/// The program that asks a server whatever its OpenAPI description allows.
pub fn schemathesis() -> Result<PathBuf> {
    installed("schemathesis/bin/schemathesis")
}

/// A program of a Debian package.
pub fn program(name: &str, package: &str) -> Result<PathBuf> {
    let paths = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&paths).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is missing: apt-get install {package}"))
}

/// The folder of Spark with Delta, a reader and a peer of benchmarks: a Python environment `venv`,
/// and `jars`.
pub fn spark() -> Result<PathBuf> {
    installed("spark/jars")?;
    installed("spark")
}

fn installed(part: &str) -> Result<PathBuf> {
    let cache = match env::var_os("ADLAKE_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => Path::new(&env::var_os("HOME").context("neither ADLAKE_CACHE nor HOME is set")?).join(".cache/adlake"),
    };
    let path = cache.join(part);
    ensure!(path.exists(), "{} is missing: run tests/setup/setup.sh (or make test)", path.display());
    Ok(path)
}

/// A port of 127.0.0.1 that nobody listens on.
///
/// The port is below the range that the system uses for outgoing connections. In that range, a
/// client that retries a server which is down can be given the server's own port as its outgoing
/// port. It then connects to itself and keeps the server from coming back.
pub fn free_port() -> Result<u16> {
    let first_ephemeral = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .filter(|first| *first > 12_000)
        .unwrap_or(32_768);
    let mut random = rand::rng();
    for _ in 0..1_000 {
        let port = random.random_range(10_240..first_ephemeral);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).context("no port of 127.0.0.1 is free")?;
    Ok(listener.local_addr()?.port())
}
