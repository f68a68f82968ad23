//! The rules of `setup/dependency_rules.py` catch what they forbid: a violation of each kind is
//! planted in a copy of the workspace.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::{TempDir, tempdir};

/// The parts of the workspace that the rules read.
fn copy() -> TempDir {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempdir().unwrap();
    copy_folder(workspace, folder.path());
    folder
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (name, target) = (entry.file_name(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            if name != "target" && name != ".git" && name != "node_modules" {
                fs::create_dir(&target).unwrap();
                copy_folder(&entry.path(), &target);
            }
        } else if [".rs", ".toml", ".lock", ".md", ".py"].iter().any(|end| name.to_string_lossy().ends_with(end)) {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What the rules say of a workspace, a violation a line.
fn violations(workspace: &Path) -> Vec<String> {
    let rules = workspace.join("tests/setup/dependency_rules.py");
    let output = Command::new("python3").arg(rules).arg(workspace).output().expect("install python3");
    let lines: Vec<String> = String::from_utf8_lossy(&output.stderr).lines().map(str::to_owned).collect();
    assert_eq!(output.status.code(), Some(i32::from(!lines.is_empty())), "{lines:?}");
    lines
}

/// Appends to files of the copy, and checks that the rules say so. Then restores the files.
fn check(folder: &TempDir, planted: &[(&str, &str)], expected: &str) {
    let path = |file: &str| folder.path().join(file);
    let before: Vec<Option<String>> = planted.iter().map(|(file, _)| fs::read_to_string(path(file)).ok()).collect();
    for ((file, text), before) in planted.iter().zip(&before) {
        fs::write(path(file), format!("{}{text}", before.as_deref().unwrap_or_default())).unwrap();
    }
    let found = violations(folder.path());
    assert!(found.iter().any(|line| line.contains(expected)), "{planted:?}: {expected}: {found:?}");
    for ((file, _), before) in planted.iter().zip(before) {
        match before {
            Some(before) => fs::write(path(file), before).unwrap(),
            None => fs::remove_file(path(file)).unwrap(),
        }
    }
}

/// Replaces text in a file of the copy. Returns what the file held.
fn replace(folder: &TempDir, file: &str, from: &str, to: &str) -> String {
    let before = fs::read_to_string(folder.path().join(file)).unwrap();
    assert!(before.contains(from), "{file} does not contain {from:?}");
    fs::write(folder.path().join(file), before.replacen(from, to, 1)).unwrap();
    before
}

#[test]
fn dependencies_of_crates_are_caught() {
    let folder = copy();
    assert_eq!(violations(folder.path()), Vec::<String>::new());
    // The lake's own edges to the domain would be a circle of packages, which cargo refuses.
    let edges = "adlake-domain.workspace = true\nadlake-telemetry.workspace = true\n";
    let lake = replace(&folder, "lake/Cargo.toml", edges, "");
    for (krate, dependency, expected) in [
        ("domain", "adlake-lake", "adlake-domain: must not depend on adlake-lake"),
        ("domain", "adlake-workspace-hack", "adlake-domain: must not depend on adlake-workspace-hack"),
        ("domain", "tokio", "adlake-domain: must stay pure, but reaches I/O: adlake-domain -> tokio"),
        ("domain", "rdkafka", "reaches I/O: adlake-domain -> rdkafka -> rdkafka-sys"),
        ("speed-layer/decode", "tokio", "adlake-decode: must stay pure, but reaches I/O: adlake-decode -> tokio"),
        ("batch-layer", "adlake-speed-layer", "adlake-batch-layer: must not depend on adlake-speed-layer"),
        ("serving", "adlake-batch-layer", "adlake-serving: must not depend on adlake-batch-layer"),
        ("traffic", "adlake-lake", "adlake-traffic: must not depend on adlake-lake"),
    ] {
        let (manifest, line) =
            (format!("{krate}/Cargo.toml"), format!("[dependencies]\n{dependency}.workspace = true\n"));
        let before = replace(&folder, &manifest, "[dependencies]\n", &line);
        let found = violations(folder.path());
        assert!(
            found.iter().any(|line| line.starts_with(expected) || line.ends_with(expected)),
            "{expected}: {found:?}"
        );
        fs::write(folder.path().join(manifest), before).unwrap();
    }
    fs::write(folder.path().join("lake/Cargo.toml"), lake).unwrap();

    fs::create_dir_all(folder.path().join("stray/src")).unwrap();
    fs::write(folder.path().join("stray/src/lib.rs"), "").unwrap();
    let domain = fs::read_to_string(folder.path().join("domain/Cargo.toml")).unwrap();
    fs::write(folder.path().join("stray/Cargo.toml"), domain.replace("adlake-domain", "adlake-stray")).unwrap();
    replace(&folder, "Cargo.toml", "members = [", "members = [\"stray\", ");
    let found = violations(folder.path());
    assert!(found.iter().any(|line| line.contains("adlake-stray: is not listed")), "{found:?}");
}

#[test]
fn circles_of_modules_are_caught() {
    let folder = copy();
    let file = |name: &str| folder.path().join(name);
    let (kpi, money) = ("domain/src/kpi.rs", "domain/src/money.rs");
    fs::write(file(kpi), "use crate::money::Z;\n").unwrap();
    for planted in [
        "use crate::kpi::X;\n",
        "use crate::{\n    kpi::X,\n    money,\n};\n",
        "type Y = super::kpi::X;\n",
        "use crate as root;\ntype Y = root::kpi::X;\n",
        "use crate::{self as root};\ntype Y = root::kpi::X;\n",
        "use super::{self as up};\nuse up::kpi as other;\n",
    ] {
        check(&folder, &[(money, planted)], "adlake-domain: circle of modules kpi, money");
    }
    // Through what the root, or a module between, imports from another module.
    let root = ("domain/src/lib.rs", "pub use kpi::X;\n");
    check(&folder, &[root, (money, "use crate::X;\n")], "adlake-domain: circle of modules kpi, money");
    let root = ("domain/src/lib.rs", "use crate::kpi as figures;\n");
    check(&folder, &[root, (money, "type Y = super::figures::X;\n")], "adlake-domain: circle of modules kpi, money");
    // Neither tests nor comments nor texts are uses.
    fs::write(file(kpi), "// See crate::money::Z.\n#[cfg(test)]\nuse crate::money;\n").unwrap();
    let before = fs::read_to_string(file(money)).unwrap();
    fs::write(file(money), "use crate::kpi;\nconst A: &str = \"crate::kpi\";\n").unwrap();
    assert_eq!(violations(folder.path()), Vec::<String>::new());
    fs::write(file(money), before).unwrap();

    // Within a module, and in a program.
    let (lane, marks) = ("speed-layer/src/pipeline/lane.rs", "speed-layer/src/pipeline/marks.rs");
    let planted = [(lane, "use super::marks::X;\n"), (marks, "use super::lane::Y;\n")];
    check(&folder, &planted, "adlake-speed-layer::pipeline: circle of modules lane, marks");
    let (one, other) = ("tests/src/bin/bench/compare.rs", "tests/src/bin/bench/spark.rs");
    let planted = [(one, "use crate::spark::X;\n"), (other, "use crate::compare::Y;\n")];
    check(&folder, &planted, "adlake-tests::bin::bench: circle of modules compare, spark");
    // A circle that is allowed grows, or is gone.
    let planted = [
        ("tests/src/oracle/content.rs", "use super::calendar;\n"),
        ("tests/src/oracle/calendar.rs", "use super::content;\n"),
    ];
    check(&folder, &planted, "adlake-tests::oracle: circle of modules calendar, content, raw");
    fs::write(file("tests/src/oracle/content.rs"), "").unwrap();
    check(&folder, &[], "adlake-tests::oracle: CIRCLES allows a circle of content, raw, but there is none");
}

#[test]
fn what_hides_modules_and_what_reaches_the_system_is_caught() {
    let folder = copy();
    let money = "domain/src/money.rs";
    for (file, planted, expected) in [
        (money, "use crate::*;\n", "adlake-domain: money: crate::* hides which modules are used"),
        (money, "use super::{kpi::X, *};\n", "adlake-domain: money: super::* hides which modules are used"),
        ("domain/src/lib.rs", "pub use kpi::*;\n", "adlake-domain: the root: kpi::* hides which modules are used"),
        (money, "#[path = \"kpi.rs\"]\nmod other;\n", "adlake-domain: money: #[path]"),
        (money, "#[cfg_attr(unix, path = \"kpi.rs\")]\nmod other;\n", "adlake-domain: money: #[path]"),
        (money, "include!(\"kpi.rs\");\n", "adlake-domain: money: #[path], include!"),
        (money, "use std::fs;\n", "adlake-domain: must stay pure, but money names std::fs"),
        (money, "use std::{io, net::TcpStream};\n", "but money names std::net::TcpStream"),
        (money, "fn f() -> bool { ::std::env::var(\"A\").is_ok() }\n", "but money names std::env::var"),
        (money, "use std as s;\ntype Y = s::process::Command;\n", "but money names std::process::Command"),
        (money, "use std::*;\n", "but money names std::*"),
        ("speed-layer/decode/src/csv.rs", "use std::fs;\n", "adlake-decode: must stay pure, but csv names std::fs"),
    ] {
        check(&folder, &[(file, planted)], expected);
    }
    // Tests may, and so may other crates.
    for (file, text) in [(money, "#[cfg(test)]\nuse std::fs;\n"), ("lake/src/tables.rs", "use std::{env, fs};\n")] {
        fs::write(folder.path().join(file), text).unwrap();
    }
    let found = violations(folder.path());
    assert!(!found.iter().any(|line| line.contains("must stay pure")), "{found:?}");
}

#[test]
fn lengths_and_ignored_tests_are_caught() {
    let folder = copy();
    let kpi = "domain/src/kpi.rs";
    let long = |count: usize| "x".repeat(count);
    check(&folder, &[(kpi, &format!("const {}: u8 = 0;\n", long(120)))], "columns; 120 are allowed");
    check(&folder, &[(kpi, &format!("/// {}\n", long(100)))], "columns; 100 are allowed");
    check(&folder, &[("docs/new.md", &long(141))], "docs/new.md:1: 141 columns; 140 are allowed");
    check(&folder, &[(kpi, &"\n".repeat(501))], "lines; 500 are allowed");
    check(&folder, &[(kpi, &format!("#[{}]\nfn test() {{}}\n", "ignore"))], "a test is ignored");
}
