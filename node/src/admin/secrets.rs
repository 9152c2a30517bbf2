//! Secrets go in and never come out: where one stands, administrators read a mark.

use std::collections::BTreeMap;

use appsockets_core::settings::{
    problem::Problem,
    resource::{AuthProviderSpec, HttpProviderSpec, JwtSpec, NatsProviderSpec, Resource},
};

/// Stands for a secret. In what is written it keeps the one that is there.
pub const MARK: &str = "(secret)";

/// The same resource without its secrets.
pub fn hide(resource: &Resource) -> Resource {
    let mut shown = resource.clone();
    if let Resource::AuthProvider { spec, .. } = &mut shown {
        let over_http = spec.http.iter_mut().flat_map(|http| http.headers.values_mut());
        let over_nats = spec.nats.iter_mut().flat_map(|nats| nats.headers.values_mut());
        let secret = spec.jwt.iter_mut().filter_map(|jwt| jwt.secret.as_mut());
        over_http.chain(over_nats).chain(secret).for_each(|value| *value = MARK.to_owned());
    }
    shown
}

/// Puts the secrets in force in the place of marks.
///
/// # Errors
/// A mark stands where there is nothing to keep. A header is kept only for the address that it was given for: otherwise
/// who may not read it could have it sent to an address of their own.
pub fn keep(written: &mut Resource, held: Option<&Resource>) -> Result<(), Vec<Problem>> {
    let Resource::AuthProvider { spec, .. } = written else { return Ok(()) };
    let held = match held {
        Some(Resource::AuthProvider { spec, .. }) => Some(spec),
        _ => None,
    };
    let mut problems = Vec::new();
    if let Some(HttpProviderSpec { url, headers, .. }) = &mut spec.http {
        let held = held.and_then(|held| held.http.as_ref()).filter(|held| held.url == *url);
        keep_headers("spec.http.headers", headers, held.map(|held| &held.headers), &mut problems);
    }
    if let Some(NatsProviderSpec { subject, headers, .. }) = spec.nats.as_deref_mut() {
        let held = held.and_then(|held| held.nats.as_ref()).filter(|held| held.subject == *subject);
        keep_headers("spec.nats.headers", headers, held.map(|held| &held.headers), &mut problems);
    }
    keep_secret(spec, held, &mut problems);
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

fn keep_headers(
    field: &str,
    headers: &mut BTreeMap<String, String>,
    held: Option<&BTreeMap<String, String>>,
    problems: &mut Vec<Problem>,
) {
    for (name, value) in headers.iter_mut().filter(|(_, value)| *value == MARK) {
        match held.and_then(|held| held.get(name)) {
            Some(kept) => value.clone_from(kept),
            None => problems.push(nothing_to_keep(format!("{field}.{name}"))),
        }
    }
}

fn keep_secret(spec: &mut AuthProviderSpec, held: Option<&AuthProviderSpec>, problems: &mut Vec<Problem>) {
    let Some(JwtSpec { secret: Some(secret), .. }) = &mut spec.jwt else { return };
    if secret != MARK {
        return;
    }
    match held.and_then(|held| held.jwt.as_ref()).and_then(|jwt| jwt.secret.as_ref()) {
        Some(kept) => secret.clone_from(kept),
        None => problems.push(nothing_to_keep("spec.jwt.secret")),
    }
}

fn nothing_to_keep(place: impl Into<String>) -> Problem {
    Problem::new(place, format!("There is no secret for this address that {MARK} could keep: write the secret itself."))
}
