//! Owns where spans are sent to: the reading of the two settings. Never shows what stands in them: a
//! URL may hold a password, a header a token.

use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::ExposeSecret;

use crate::config::{Settings, SettingsError};

/// Where traces go at a collector (OTLP/HTTP, "OTLP/HTTP Request").
const PATH: &str = "/v1/traces";

/// A collector.
#[derive(Debug, Clone)]
pub(super) struct Endpoint {
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
}

impl Endpoint {
    /// The collector of the settings; none where none is set.
    ///
    /// # Errors
    /// One line that names the setting that can't be read.
    pub(super) fn of(settings: &Settings) -> Result<Option<Self>, SettingsError> {
        let Some(raw) = &settings.otlp_endpoint else { return Ok(None) };
        let must = |name: &str, be: &str| SettingsError::new(format!("{name} must be {be}"));
        let url = url(raw.expose_secret())
            .ok_or_else(|| must("RISKFLEET_OTLP_ENDPOINT", "a URL with a host, as http://collector:4318"))?;
        let raw = settings.otlp_headers.as_ref().map_or("", |headers| headers.expose_secret());
        let headers = headers(raw)
            .ok_or_else(|| must("RISKFLEET_OTLP_HEADERS", "name=value,name2=value2 of printable ASCII characters"))?;
        Ok(Some(Self { url, headers }))
    }
}

/// The address of the traces, at the collector's own or given whole.
fn url(raw: &str) -> Option<Url> {
    let mut url = Url::parse(raw).ok()?;
    let fits = matches!(url.scheme(), "http" | "https") && url.has_host() && url.fragment().is_none();
    if !fits || url.query().is_some() {
        return None;
    }
    let path = url.path().trim_end_matches('/');
    if !path.ends_with(PATH) {
        let path = format!("{path}{PATH}");
        url.set_path(&path);
    }
    Some(url)
}

fn headers(raw: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for pair in raw.split(',').filter(|pair| !pair.trim().is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let mut value = HeaderValue::from_str(value.trim()).ok()?;
        value.set_sensitive(true);
        headers.append(HeaderName::try_from(name.trim()).ok()?, value);
    }
    Some(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_added_where_it_is_missing() {
        let cases = [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("https://c.example/otlp", "https://c.example/otlp/v1/traces"),
            ("https://c.example/otlp/v1/traces", "https://c.example/otlp/v1/traces"),
        ];
        for (raw, want) in cases {
            assert_eq!(url(raw).expect(raw).as_str(), want);
        }
        for bad in ["collector:4318", "ftp://c", "http://", "http://c?x=1", "http://c/#x", "http://c:99999"] {
            assert!(url(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn headers_are_pairs() {
        let read = headers("authorization=Bearer a=b, x-scope = acme").expect("legal");
        assert!(read["authorization"] == "Bearer a=b" && read["x-scope"] == "acme");
        assert!(!format!("{read:?}").contains("Bearer"), "never shown");
        assert!(headers("").expect("none").is_empty());
        for bad in ["token", "a b=c", "a=\u{1}"] {
            assert!(headers(bad).is_none(), "{bad:?}");
        }
    }
}
