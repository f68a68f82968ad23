//! TLS: the server's certificate, read from files, and read again when they change.

use std::path::Path;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use adlake_lake::LakeError;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::settings::TlsSettings;

/// How often the files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(2);
/// The longest time for a handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The first byte of every TLS connection: the type of a handshake record.
const HANDSHAKE: u8 = 22;
/// What a client is told that does not speak TLS.
const PLAINTEXT: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-type: text/plain\r\n\
                         content-length: 44\r\n\r\nThis port speaks TLS only: ask by https://.\n";

/// The certificate in force.
#[derive(Debug)]
pub struct Tls {
    settings: TlsSettings,
    current: RwLock<Current>,
}

#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    /// The hash of the files.
    digest: [u8; 32],
}

impl Tls {
    /// Reads the files. `None`: the settings name none. An error names the file.
    pub fn open(settings: &TlsSettings) -> Result<Option<Tls>, LakeError> {
        if settings.certificate.as_os_str().is_empty() {
            return Ok(None);
        }
        let current = load(settings).map_err(LakeError::Configuration)?;
        Ok(Some(Tls { settings: settings.clone(), current: RwLock::new(current) }))
    }

    /// Does the handshake of a connection.
    pub async fn accept(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let config = match self.current.read() {
            Ok(current) => current.config.clone(),
            Err(poisoned) => poisoned.into_inner().config.clone(),
        };
        let handshake = async {
            let mut first = [0];
            stream.peek(&mut first).await.map_err(|error| error.to_string())?;
            if first != [HANDSHAKE] {
                return Err(refuse(stream).await);
            }
            TlsAcceptor::from(config).accept(stream).await.map_err(|error| error.to_string())
        };
        tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake)
            .await
            .map_err(|_| "the handshake took too long".to_string())?
    }

    /// Reads the files again whenever they change. While they cannot be used, the certificate
    /// before stays in force.
    pub async fn follow(&self, cancel: CancellationToken) {
        let mut reported: Option<String> = None;
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = tokio::time::sleep(RELOAD_INTERVAL) => {}
            }
            match load(&self.settings) {
                Ok(next) => {
                    reported = None;
                    let Ok(mut current) = self.current.write() else { return };
                    if current.digest != next.digest {
                        *current = next;
                        tracing::info!(file = %self.settings.certificate.display(), "the new certificate is in force");
                    }
                }
                // The two files are not written at the same instant, so this may pass.
                Err(problem) if reported.as_ref() == Some(&problem) => {}
                Err(problem) => {
                    tracing::warn!(problem, "the certificate before stays in force");
                    reported = Some(problem);
                }
            }
        }
    }
}

/// Tells a client without TLS why it gets no answer. Returns the reason for the log.
async fn refuse(mut stream: TcpStream) -> String {
    // It may have gone away already.
    let _ = stream.write_all(PLAINTEXT.as_bytes()).await;
    let _ = stream.shutdown().await;
    "the client does not speak TLS".to_string()
}

fn load(settings: &TlsSettings) -> Result<Current, String> {
    let read = |key: &str, file: &Path| {
        std::fs::read(file).map_err(|error| format!("serve.tls.{key}: cannot read {}: {error}", file.display()))
    };
    let (certificate, key) = (read("certificate", &settings.certificate)?, read("key", &settings.key)?);
    let wrong = |key: &str, file: &Path, detail: String| format!("serve.tls.{key}: {}: {detail}", file.display());
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong("certificate", &settings.certificate, format!("is no PEM: {error}")))?;
    if chain.is_empty() {
        return Err(wrong("certificate", &settings.certificate, "has no certificate".into()));
    }
    // The message of the reader does not show what it has read.
    let private = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|error| wrong("key", &settings.key, format!("has no private key: {error}")))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| {
            let detail = format!("does not go with the key in {}: {error}", settings.key.display());
            wrong("certificate", &settings.certificate, detail)
        })?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let digest = Sha256::new().chain_update(&certificate).chain_update(&key).finalize().into();
    Ok(Current { config: Arc::new(config), digest })
}
