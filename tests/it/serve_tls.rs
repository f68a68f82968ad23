//! `adlake serve` over TLS: what it refuses, and what it does when the certificate changes.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use adlake_tests::adlake::Adlake;
use adlake_tests::wait;
use anyhow::{Context, Result, ensure};
use reqwest::{Certificate, Client};

use crate::serve::{DEADLINE, Server, config, ingest};

/// Makes a certificate for 127.0.0.1 that signs itself, and its key.
pub fn certificate(folder: &Path, name: &str) -> Result<()> {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=adlake test", "-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &format!("{name}.key"), "-out", &format!("{name}.pem")])
        .current_dir(folder)
        .output()
        .context("openssl makes certificates: apt-get install openssl")?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    Ok(())
}

/// A client that trusts one certificate and no other. It keeps no connection.
pub fn client(folder: &Path, name: &str) -> Result<Client> {
    let pem = fs::read(folder.join(format!("{name}.pem")))?;
    let builder = Client::builder().tls_built_in_root_certs(false).add_root_certificate(Certificate::from_pem(&pem)?);
    Ok(builder.pool_max_idle_per_host(0).build()?)
}

/// The lines of the `[serve.tls]` section.
pub fn section(folder: &Path, name: &str) -> String {
    let file = |ending: &str| folder.join(format!("{name}.{ending}")).display().to_string();
    format!("[serve.tls]\ncertificate = \"{}\"\nkey = \"{}\"\n", file("pem"), file("key"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_speaks_tls_and_takes_a_new_certificate() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for name in ["now", "first", "second"] {
        certificate(folder.path(), name)?;
    }
    let put = |name: &str| -> Result<()> {
        for ending in ["pem", "key"] {
            fs::copy(folder.path().join(format!("{name}.{ending}")), folder.path().join(format!("now.{ending}")))?;
        }
        Ok(())
    };
    put("first")?;
    let config = config(folder.path(), &section(folder.path(), "now"));
    let adlake = Adlake::in_dir(folder.path()).config(&config);
    ingest(&adlake, folder.path(), "a", 1, 300);
    let (first, second) = (client(folder.path(), "first")?, client(folder.path(), "second")?);
    let server = Server::start_for(adlake, "https", first.clone()).await?;
    ensure!(server.get("/v1/freshness", None).await?.status().is_success());
    let url = server.url("/healthz");
    ensure!(second.get(&url).send().await.is_err(), "the wrong certificate is trusted");

    // Plain HTTP gets no answer but the reason.
    let mut plain = TcpStream::connect(("127.0.0.1", server.port))?;
    plain.set_read_timeout(Some(Duration::from_secs(10)))?;
    plain.write_all(b"GET /v1/freshness HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")?;
    let mut answer = String::new();
    plain.read_to_string(&mut answer)?;
    ensure!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("by https://.\n"), "{answer}");

    // Files that cannot be used change nothing, and say so once.
    fs::write(folder.path().join("now.pem"), "no certificate")?;
    wait::until(DEADLINE, "a line of the log that names the file", || server.process.logs().contains("now.pem"))?;
    ensure!(first.get(&url).send().await?.status().is_success(), "the certificate before is not in force");
    // A new certificate is taken without a restart.
    put("second")?;
    let taken = wait::until_async(DEADLINE, "the new certificate", async || Ok(second.get(&url).send().await.is_ok()));
    taken.await.with_context(|| server.process.logs())?;
    ensure!(first.get(&url).send().await.is_err(), "the certificate before is still given");
    Ok(())
}

#[test]
fn a_certificate_that_cannot_be_used_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for name in ["good", "other"] {
        certificate(folder.path(), name)?;
    }
    let file = |name: &str| folder.path().join(name).display().to_string();
    let check = |certificate: &str, key: &str, parts: &[&str]| -> Result<()> {
        let more = format!("[serve.tls]\ncertificate = \"{certificate}\"\nkey = \"{key}\"\n");
        let adlake = Adlake::in_dir(folder.path()).config(&config(folder.path(), &more));
        let refused = adlake.run(["serve", "--listen", "127.0.0.1:0"]);
        ensure!(refused.status.code() == Some(2), "{}", refused.stderr);
        ensure!(parts.iter().all(|part| refused.stderr.contains(part)), "{parts:?}: {}", refused.stderr);
        Ok(())
    };
    let (good, key) = (file("good.pem"), file("good.key"));
    check(&file("none.pem"), &key, &["serve.tls.certificate", &file("none.pem")])?;
    check(&good, &file("none.key"), &["serve.tls.key", &file("none.key")])?;
    check(&good, "", &["serve.tls.key"])?;
    check(&good, &good, &["serve.tls.key", &good])?;
    check(&key, &key, &["serve.tls.certificate", &key])?;
    check(&good, &file("other.key"), &["serve.tls.certificate", &good, &file("other.key")])?;
    Ok(())
}
