//! What nodes sign, encrypt and identify themselves with: made once, of chance, and changed only where that is asked for.

use std::collections::BTreeMap;

use anyhow::Context;
use appsockets_crds::AppSocketsCluster;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::ResourceExt;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::{Names, host, metadata};

/// Keys of the Secrets.
pub const SESSION: &str = "session";
pub const MEMBERSHIP: &str = "membership";
pub const RPC: &str = "rpc";
/// Those that nodes take from administrators.
pub const ADMIN_TOKENS: &str = "admin-tokens";
/// The one of them that administrators show.
pub const ADMIN: &str = "admin-token";
/// What nodes share: in each a key in each line, of which they use the first and accept all. In the order in which nodes
/// name them.
pub const SHARED: [&str; 4] = [SESSION, MEMBERSHIP, RPC, ADMIN_TOKENS];
pub const CERTIFICATE: &str = "tls.crt";
pub const CERTIFICATE_KEY: &str = "tls.key";
pub const AUTHORITY: &str = "ca.crt";
/// Of the authority that comes next, and of the one that was there before.
pub const NEXT: &str = "next.crt";
pub const NEXT_KEY: &str = "next.key";
pub const FORMER: &str = "former.crt";
/// Who has signed a node's certificate.
const SIGNER: &str = "signer.crt";

/// What nodes share.
///
/// # Errors
/// The machine has no chance to give.
pub fn keys(cluster: &AppSocketsCluster) -> anyhow::Result<Secret> {
    let mut data = BTreeMap::new();
    for name in SHARED {
        data.insert(name.to_owned(), ByteString(key()?.into_bytes()));
    }
    data.insert(ADMIN.to_owned(), data[ADMIN_TOKENS].clone());
    Ok(secret(cluster, &Names::of(cluster).keys, data))
}

/// A new key.
///
/// # Errors
/// The machine has no chance to give.
pub fn key() -> anyhow::Result<String> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).context("this machine gives no random bytes")?;
    Ok(key.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// A new authority, which signs for nodes and for the operator.
///
/// # Errors
/// No key can be made.
pub fn authority(cluster: &AppSocketsCluster) -> anyhow::Result<Secret> {
    let (certificate, key) = own_authority(cluster)?;
    let data = [(CERTIFICATE, certificate), (CERTIFICATE_KEY, key)];
    Ok(secret(cluster, &Names::of(cluster).authority, text(data)))
}

/// The certificate of a new authority, and its key.
///
/// # Errors
/// No key can be made.
pub fn own_authority(cluster: &AppSocketsCluster) -> anyhow::Result<(String, String)> {
    let key = KeyPair::generate()?;
    Ok((authority_params(cluster).self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Whom nodes and operators trust.
pub fn trusted(authority: &Secret) -> String {
    [CERTIFICATE, NEXT, FORMER].into_iter().filter_map(|name| value(authority, name)).collect()
}

/// Whether a node's certificate is what it ought to be with this authority.
pub fn is_current(node_certificate: &Secret, authority: &Secret) -> bool {
    value(node_certificate, SIGNER) == value(authority, CERTIFICATE)
        && value(node_certificate, AUTHORITY) == Some(trusted(authority))
}

/// What nodes show to the operator, and that by which they know it.
///
/// # Errors
/// The authority can't be used.
pub fn node_certificate(cluster: &AppSocketsCluster, authority: &Secret) -> anyhow::Result<Secret> {
    let (certificate, key) = sign(cluster, authority, ExtendedKeyUsagePurpose::ServerAuth)?;
    let signer = value(authority, CERTIFICATE).context("the authority has no certificate")?;
    let data = [(CERTIFICATE, certificate), (CERTIFICATE_KEY, key), (AUTHORITY, trusted(authority)), (SIGNER, signer)];
    Ok(secret(cluster, &Names::of(cluster).node_certificate, text(data)))
}

/// A certificate of one use, and its key.
///
/// # Errors
/// The authority can't be used.
pub fn sign(
    cluster: &AppSocketsCluster,
    authority: &Secret,
    purpose: ExtendedKeyUsagePurpose,
) -> anyhow::Result<(String, String)> {
    let key = value(authority, CERTIFICATE_KEY).context("the authority has no key")?;
    let issuer = Issuer::new(authority_params(cluster), KeyPair::from_pem(&key)?);
    let name = host(&cluster.namespace().unwrap_or_default(), &cluster.name_any());
    let mut params = CertificateParams::new([name])?;
    params.extended_key_usages = vec![purpose];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, &issuer)?.pem(), key.serialize_pem()))
}

/// A text of a Secret.
pub fn value(secret: &Secret, key: &str) -> Option<String> {
    let ByteString(value) = secret.data.as_ref()?.get(key)?;
    String::from_utf8(value.clone()).ok()
}

fn authority_params(cluster: &AppSocketsCluster) -> CertificateParams {
    let mut params = CertificateParams::default();
    let name = format!("{} of {}", cluster.name_any(), cluster.namespace().unwrap_or_default());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn text<const N: usize>(data: [(&str, String); N]) -> BTreeMap<String, ByteString> {
    data.into_iter().map(|(name, value)| (name.to_owned(), ByteString(value.into_bytes()))).collect()
}

fn secret(cluster: &AppSocketsCluster, name: &str, data: BTreeMap<String, ByteString>) -> Secret {
    Secret { metadata: metadata(cluster, name), data: Some(data), ..Secret::default() }
}
