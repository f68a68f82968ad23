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

/// Appends to a file of the copy, and checks that the rules say so.
fn check(folder: &TempDir, file: &str, planted: &str, expected: &str) {
    let path = folder.path().join(file);
    let before = fs::read_to_string(&path).ok();
    let text = format!("{}{planted}", before.as_deref().unwrap_or_default());
    fs::write(&path, text).unwrap();
    let found = violations(folder.path());
    assert!(found.iter().any(|line| line.contains(expected)), "{file}: {expected}: {found:?}");
    match before {
        Some(before) => fs::write(&path, before).unwrap(),
        None => fs::remove_file(&path).unwrap(),
    }
}

#[test]
fn each_kind_of_violation_is_caught() {
    let folder = copy();
    assert_eq!(violations(folder.path()), Vec::<String>::new());

    // Crates.
    let domain = fs::read_to_string(folder.path().join("domain/Cargo.toml")).unwrap();
    let with = |line: &str| domain.replace("[dependencies]\n", &format!("[dependencies]\n{line}\n"));
    for (line, expected) in [
        ("adlake-lake.workspace = true", "adlake-domain: must not depend on adlake-lake"),
        ("tokio.workspace = true", "reaches I/O: adlake-domain -> tokio"),
        ("rdkafka.workspace = true", "reaches I/O: adlake-domain -> rdkafka -> rdkafka-sys"),
    ] {
        // The lake's own edge to the domain would be a circle of packages, which cargo refuses.
        if line.starts_with("adlake-lake") {
            let lake = fs::read_to_string(folder.path().join("lake/Cargo.toml")).unwrap();
            let without = lake.replace("adlake-domain.workspace = true\n", "");
            fs::write(folder.path().join("lake/Cargo.toml"), without).unwrap();
            fs::write(folder.path().join("domain/Cargo.toml"), with(line)).unwrap();
            let found = violations(folder.path());
            assert!(found.iter().any(|found| found == expected), "{found:?}");
            fs::write(folder.path().join("lake/Cargo.toml"), lake).unwrap();
        } else {
            fs::write(folder.path().join("domain/Cargo.toml"), with(line)).unwrap();
            let found = violations(folder.path());
            assert!(found.iter().any(|found| found.contains(expected)), "{found:?}");
        }
    }
    fs::write(folder.path().join("domain/Cargo.toml"), &domain).unwrap();
    fs::create_dir_all(folder.path().join("stray/src")).unwrap();
    fs::write(folder.path().join("stray/src/lib.rs"), "").unwrap();
    let stray = domain.replace("adlake-domain", "adlake-stray");
    fs::write(folder.path().join("stray/Cargo.toml"), stray).unwrap();
    let workspace = fs::read_to_string(folder.path().join("Cargo.toml")).unwrap();
    let with_stray = workspace.replace("members = [", "members = [\"stray\", ");
    fs::write(folder.path().join("Cargo.toml"), with_stray).unwrap();
    let found = violations(folder.path());
    assert!(found.iter().any(|line| line.contains("adlake-stray: is not listed")), "{found:?}");
    fs::write(folder.path().join("Cargo.toml"), workspace).unwrap();
    fs::remove_dir_all(folder.path().join("stray")).unwrap();

    // Modules: a path, a group, a relative path.
    for planted in ["use crate::kpi::X;\n", "use crate::{\n    kpi::X,\n    money,\n};\n", "type Y = super::kpi::X;\n"]
    {
        fs::write(folder.path().join("domain/src/kpi.rs"), "use crate::money::Z;\n").unwrap();
        check(&folder, "domain/src/money.rs", planted, "adlake-domain: circle of modules kpi, money");
    }
    fs::write(folder.path().join("lake/src/views/cubes.rs"), "use super::plans::X;\n").unwrap();
    check(&folder, "lake/src/views/plans.rs", "use super::cubes::Y;\n", "adlake-lake::views: circle of modules");
    // Neither tests nor comments are uses.
    fs::write(folder.path().join("domain/src/kpi.rs"), "// See crate::money::Z.\n#[cfg(test)]\nuse crate::money;\n")
        .unwrap();
    fs::write(folder.path().join("domain/src/money.rs"), "use crate::kpi;\nconst A: &str = \"crate::kpi\";\n").unwrap();
    fs::write(folder.path().join("lake/src/views/plans.rs"), "").unwrap();
    assert_eq!(violations(folder.path()), Vec::<String>::new());

    // Text.
    let long = |count: usize| "x".repeat(count);
    check(&folder, "domain/src/kpi.rs", &format!("const {}: u8 = 0;\n", long(120)), "columns; 120 are allowed");
    check(&folder, "domain/src/kpi.rs", &format!("/// {}\n", long(100)), "columns; 100 are allowed");
    check(&folder, "docs/new.md", &long(141), "docs/new.md:1: 141 columns; 140 are allowed");
    check(&folder, "domain/src/kpi.rs", &"\n".repeat(501), "lines; 500 are allowed");
    check(&folder, "domain/src/kpi.rs", &format!("#[{}]\nfn test() {{}}\n", "ignore"), "a test is ignored");
}
