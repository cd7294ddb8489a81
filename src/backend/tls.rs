//! TLS for every backend: one rustls configuration, one crypto provider (ring), one way to say what went wrong.
//!
//! A server's certificate is verified against the certificates in `ca` and nothing else, or against the system's roots and
//! those that `NODE_EXTRA_CA_CERTS` names where no `ca` is given. [`Tls::Insecure`] verifies nothing but still checks the handshake's signatures. Files are read
//! anew by each call, so that a reconnect sees a rotated certificate.

use crate::error::{Error, Kind, Result};
use crate::options::{RemoteOptions, Tls};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use std::error::Error as StdError;
use std::path::Path;
use std::sync::Arc;

/// A client's certificate chain and private key, as PEM text.
pub struct Identity {
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

/// The configuration of a TLS client after `options`, without ALPN. Also right for [`Tls::Off`], where nobody asks.
///
/// `Kind::Tls` names the file that cannot be read or used, and why.
pub fn client_config(options: &RemoteOptions) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(Kind::Tls, "TLS cannot be set up").because(error))?;
    let builder = match options.tls {
        Tls::Insecure | Tls::Prefer => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider))),
        Tls::Chain => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyName::new(roots(options)?, provider)?)),
        Tls::Off | Tls::Verify => builder.with_root_certificates(roots(options)?),
    };
    let config = match identity_pem(options)? {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let path = options.crt.as_deref().unwrap_or(Path::new(""));
            let chain = certificates(&identity.certificate, "crt", path)?;
            let key = PrivateKeyDer::from_pem_slice(&identity.key)
                // The parser's own message may quote a line of the key.
                .map_err(|_| {
                    unusable(
                        "key",
                        options.key.as_deref().unwrap_or(path),
                        "holds no private key in PEM",
                    )
                })?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| unusable("crt", path, "does not go with the private key").because(error))?
        }
    };
    Ok(Arc::new(config))
}

/// The PEM text of `ca`, checked to hold a certificate, for crates that build their own configuration.
pub fn ca_pem(options: &RemoteOptions) -> Result<Option<Vec<u8>>> {
    let Some(path) = options.ca.as_deref() else {
        return Ok(None);
    };
    let pem = read("ca", path)?;
    certificates(&pem, "ca", path)?;
    Ok(Some(pem))
}

/// The PEM text of `crt` and `key`; without `key`, both come from the file `crt`.
pub fn identity_pem(options: &RemoteOptions) -> Result<Option<Identity>> {
    let Some(crt) = options.crt.as_deref() else {
        return match options.key.as_deref() {
            None => Ok(None),
            Some(key) => Err(unusable("key", key, "was given without a certificate (`crt`)")),
        };
    };
    let certificate = read("crt", crt)?;
    certificates(&certificate, "crt", crt)?;
    let key = match options.key.as_deref() {
        Some(key) => read("key", key)?,
        None => certificate.clone(),
    };
    Ok(Some(Identity { certificate, key }))
}

/// If a TLS failure is anywhere in the chain of causes of `error`, an error of `Kind::Tls` that says in plain words what is
/// wrong with the connection to `peer` (`host:port`).
pub fn describe(error: &(dyn StdError + 'static), peer: &str) -> Option<Error> {
    let cause = find(error)?;
    let what = match cause {
        rustls::Error::InvalidCertificate(reason) => reject(reason),
        rustls::Error::InvalidMessage(_) => "the server does not speak TLS there".to_owned(),
        rustls::Error::AlertReceived(alert) => format!("the server ended the handshake (alert {alert:?})"),
        rustls::Error::NoCertificatesPresented => "the server shows no certificate".to_owned(),
        rustls::Error::PeerIncompatible(_) => "the server offers no common version or cipher of TLS".to_owned(),
        _ => "the encrypted connection failed".to_owned(),
    };
    Some(Error::new(Kind::Tls, format!("TLS to {peer} failed: {what}")).because(cause))
}

/// The name that the server's certificate must carry.
pub fn server_name(host: &str) -> Result<ServerName<'static>> {
    ServerName::try_from(host.to_owned())
        .map_err(|error| Error::new(Kind::Tls, format!("TLS cannot verify the host name {host:?}")).because(error))
}

fn reject(reason: &CertificateError) -> String {
    use CertificateError as C;
    match reason {
        C::UnknownIssuer => "the server's certificate was issued by an unknown CA (see option `ca`)".to_owned(),
        C::Expired | C::ExpiredContext { .. } => "the server's certificate has expired".to_owned(),
        C::NotValidYet | C::NotValidYetContext { .. } => "the server's certificate is not valid yet".to_owned(),
        C::NotValidForName | C::NotValidForNameContext { .. } => {
            "the server's certificate is for another host name".to_owned()
        }
        C::Revoked => "the server's certificate was revoked".to_owned(),
        C::BadSignature => "the server's certificate has a wrong signature".to_owned(),
        other => format!("the server's certificate cannot be trusted ({other})"),
    }
}

/// Walks the chain of causes. An `io::Error` hides what it wraps from `source()`, and a shared error hides itself, hence the
/// other ways down.
fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        if let Some(io) = error.downcast_ref::<std::io::Error>()
            && let Some(inner) = io.get_ref()
        {
            return find(inner);
        }
        if let Some(shared) = error.downcast_ref::<Arc<dyn StdError + Send + Sync>>() {
            return find(&**shared);
        }
        next = error.source();
    }
    None
}

fn roots(options: &RemoteOptions) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    if let Some(path) = options.ca.as_deref() {
        for certificate in certificates(&read("ca", path)?, "ca", path)? {
            store
                .add(certificate)
                .map_err(|error| unusable("ca", path, "holds a certificate that cannot be used").because(error))?;
        }
        return Ok(store);
    }
    let found = rustls_native_certs::load_native_certs();
    // Some systems carry roots that no parser likes; the others are enough.
    store.add_parsable_certificates(found.certs);
    if let Some(path) = std::env::var_os("NODE_EXTRA_CA_CERTS") {
        // As in Node.js, which warns at its start of a file that it cannot use.
        let extra = read("ca", Path::new(&path)).and_then(|pem| certificates(&pem, "ca", Path::new(&path)));
        store.add_parsable_certificates(extra.unwrap_or_default());
    }
    if store.is_empty() {
        let error = Error::new(
            Kind::Tls,
            "the system has no CA certificates: name a file by option `ca`",
        );
        return Err(match found.errors.first() {
            Some(cause) => error.because(cause),
            None => error,
        });
    }
    Ok(store)
}

fn certificates(pem: &[u8], option: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        // The parser's own message may quote the file, which may hold a key as well.
        .map_err(|_| unusable(option, path, "is not a PEM file"))?;
    if found.is_empty() {
        return Err(unusable(option, path, "holds no certificate in PEM"));
    }
    Ok(found)
}

fn read(option: &str, path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| unusable(option, path, "cannot be read").because(error))
}

fn unusable(option: &str, path: &Path, why: &str) -> Error {
    Error::new(
        Kind::Tls,
        format!("TLS: the file {} (option `{option}`) {why}", path.display()),
    )
}

/// Accepts any certificate: what 1.1.2 did without `ca`, only on explicit request.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts a certificate that is in order but for another host name.
#[derive(Debug)]
struct AnyName(Arc<WebPkiServerVerifier>);

impl AnyName {
    fn new(roots: RootCertStore, provider: Arc<CryptoProvider>) -> Result<Self> {
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map(Self)
            .map_err(|error| Error::new(Kind::Tls, "TLS cannot be set up").because(error))
    }
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        // The name is what is looked at last, when all else is in order.
        match self
            .0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn options() -> RemoteOptions {
        RemoteOptions {
            tls: Tls::Verify,
            ca: None,
            crt: None,
            key: None,
            ttl: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            lock_delay: Duration::from_millis(500),
            read_wait: Duration::from_secs(10),
            max_hold: None,
            ..RemoteOptions::default()
        }
    }

    #[test]
    fn an_unreadable_ca_file_is_named() {
        let error = client_config(&RemoteOptions {
            ca: Some("/nowhere/ca.pem".into()),
            ..options()
        })
        .unwrap_err();
        assert_eq!(error.kind, Kind::Tls);
        assert!(error.message.contains("/nowhere/ca.pem"), "{error}");
        assert!(error.cause.is_some());
    }

    #[test]
    fn a_key_without_a_certificate_is_refused() {
        let error = client_config(&RemoteOptions {
            tls: Tls::Insecure,
            key: Some("/nowhere/key.pem".into()),
            ..options()
        })
        .unwrap_err();
        assert_eq!(error.kind, Kind::Tls);
    }

    #[test]
    fn insecure_needs_no_roots_and_no_files() {
        let config = client_config(&RemoteOptions {
            tls: Tls::Insecure,
            ..options()
        });
        assert!(config.is_ok());
    }

    #[test]
    fn a_failure_deep_in_the_chain_is_found_and_named() {
        let inner = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let outer = std::io::Error::other(std::io::Error::other(inner));
        let error = describe(&outer, "db.example:6379").unwrap();
        assert_eq!(error.kind, Kind::Tls);
        assert!(error.message.contains("db.example:6379") && error.message.contains("unknown CA"));
        assert!(describe(&std::io::Error::other("plain"), "x:1").is_none());
        let shared: Arc<dyn StdError + Send + Sync> = Arc::new(std::io::Error::other(rustls::Error::DecryptError));
        assert_eq!(describe(&shared, "x:1").map(|error| error.kind), Some(Kind::Tls));
    }
}
