//! Owns the talk with a fleet's API, as every command has it: the address, the token, one client,
//! answers of bounded size. Never follows a redirect, and never sends a change again whose answer
//! was lost.

use reqwest::header::RETRY_AFTER;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;

use super::CliError;
use super::args::Access;

/// The longest wait between two attempts, whatever the server asks for.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(30);

/// One request, its answer included.
const REQUEST_MAX: Duration = Duration::from_secs(60);

/// The largest answer that is read: 500 items of a few hundred bytes, with room for many errors.
const ANSWER_MAX: usize = 16 << 20;

/// How often a request is sent that was surely not taken.
const ATTEMPTS_MAX: u32 = 5;

/// How often a server that can't be reached at all is tried: mostly it is the wrong address.
const CONNECTS_MAX: u32 = 3;

pub(super) const START_IT: &str = "check --url, and that the fleet runs there (`riskfleet up` starts one)";
const CONTROL: &str = "--url must name a control API: that of `riskfleet-console` or of `riskfleet up`";
const GIVE_TOKEN: &str = "give a token whose roles allow it: --token, --token-file or RISKFLEET_TOKEN";
const LATER: &str = "try again later; what was done is not done twice";
const LOOK: &str = "whether it was done is unknown: look (`riskfleet explain EVENT`), and run it again if not";

/// A fleet's API.
pub(super) struct Api {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// Why a request has no good answer.
pub(super) enum Refused {
    /// This one was refused, others need not be.
    One(String),
    /// Every other would fare the same.
    All(CliError),
}

/// What to do after an attempt.
enum Attempt {
    Answered(Value),
    Refused(Refused),
    Again { wait: Option<Duration>, connects: bool, error: CliError },
}

impl Api {
    pub(super) fn new(access: &Access) -> Result<Self, CliError> {
        if !access.url.starts_with("http://") && !access.url.starts_with("https://") {
            let shown = without_userinfo(&access.url);
            return Err(CliError::Misuse(format!("--url must begin with http:// or https://, not {shown:?}")));
        }
        let base = access.url.trim_end_matches('/').to_owned();
        let http = reqwest::Client::builder()
            .user_agent(concat!("riskfleet/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .timeout(REQUEST_MAX)
            // A redirect would carry the token and the events to wherever it points.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| CliError::Api { url: without_userinfo(&base), why: innermost(&e), advice: START_IT })?;
        Ok(Self { http, base, token: token(access)? })
    }

    /// The address of a path.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// The address of a path as it may be shown: without the password that somebody has put into it.
    pub(super) fn shown(&self, path: &str) -> String {
        format!("{}{path}", without_userinfo(&self.base))
    }

    /// A request with the token.
    pub(super) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, self.url(path));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Reads from the control API.
    pub(super) async fn get(&self, path: &str) -> Result<Value, Refused> {
        self.ask(Method::GET, path, None::<&Value>).await
    }

    /// Changes something through the control API, saying why.
    pub(super) async fn change(&self, path: &str, reason: Option<&str>) -> Result<Value, Refused> {
        let body = reason.map_or_else(|| serde_json::json!({}), |reason| serde_json::json!({ "reason": reason }));
        self.ask(Method::POST, path, Some(&body)).await
    }

    /// Changes something that takes more than a reason.
    pub(super) async fn post(&self, path: &str, body: &(impl Serialize + Sync)) -> Result<Value, Refused> {
        self.ask(Method::POST, path, Some(body)).await
    }

    async fn ask<B: Serialize + Sync>(&self, method: Method, path: &str, body: Option<&B>) -> Result<Value, Refused> {
        let mut attempt = 1;
        loop {
            match self.attempt(method.clone(), path, body).await {
                Attempt::Answered(answer) => return Ok(answer),
                Attempt::Refused(refused) => return Err(refused),
                Attempt::Again { wait, connects, error } => {
                    if attempt >= ATTEMPTS_MAX || (connects && attempt >= CONNECTS_MAX) {
                        return Err(Refused::All(error));
                    }
                    let backoff = Duration::from_millis(250 << attempt);
                    tokio::time::sleep(wait.unwrap_or(backoff).min(WAIT_MAX)).await;
                    attempt += 1;
                }
            }
        }
    }

    async fn attempt<B: Serialize + Sync>(&self, method: Method, path: &str, body: Option<&B>) -> Attempt {
        let error = |why: String, advice: &'static str| CliError::Api { url: self.shown(path), why, advice };
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let lost = |why: String| match body {
            Some(_) => Attempt::Refused(Refused::All(error(why, LOOK))),
            None => Attempt::Again { wait: None, connects: false, error: error(why, LATER) },
        };
        let response = match request.send().await {
            Ok(response) => response,
            Err(e) if e.is_builder() => {
                return Attempt::Refused(Refused::All(error(innermost(&e), "check --url and --token")));
            }
            Err(e) if e.is_connect() => {
                return Attempt::Again { wait: None, connects: true, error: error(innermost(&e), START_IT) };
            }
            Err(e) => return lost(innermost(&e)),
        };
        let (status, wait) = (response.status(), retry_after(&response));
        let answer = match read(response).await {
            Ok(answer) => answer,
            Err(why) => return lost(why),
        };
        let why = said(status, &answer);
        // What our API does not find has a name. "No such route", ours or another server's, is said of
        // the whole.
        let ours = answer["type"].as_str().is_some_and(|kind| kind.starts_with("urn:riskfleet:problem:"));
        let of_event = ours && answer["detail"].as_str().is_some_and(|detail| detail != "no such route");
        match status.as_u16() {
            200..=299 => Attempt::Answered(answer),
            404 if of_event => Attempt::Refused(Refused::One(why)),
            400 | 409 | 410 | 413 | 422 => Attempt::Refused(Refused::One(why)),
            401 | 403 => Attempt::Refused(Refused::All(error(why, GIVE_TOKEN))),
            404 | 405 | 300..=399 => Attempt::Refused(Refused::All(error(why, CONTROL))),
            408 | 429 | 502..=504 => Attempt::Again { wait, connects: false, error: error(why, LATER) },
            _ => Attempt::Refused(Refused::All(error(why, "the log of the console says more"))),
        }
    }
}

/// A URL without `user:password@` (RFC 3986, section 3.2.1). Of what is no URL, everything before the
/// last `@` counts as that.
fn without_userinfo(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").map_or(("", url), |(scheme, rest)| (scheme, rest));
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let host = rest[..end].rsplit_once('@').map_or(&rest[..end], |(_, host)| host);
    let slashes = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{slashes}{host}{}", &rest[end..])
}

/// The token as given, or the first line of its file.
fn token(access: &Access) -> Result<Option<String>, CliError> {
    let Some(path) = &access.token_file else { return Ok(access.token.clone()) };
    let text = std::fs::read_to_string(path).map_err(|e| CliError::Input {
        file: path.display().to_string(),
        why: e.to_string(),
        advice: "check --token-file: it holds the token and nothing else",
    })?;
    Ok(text.lines().next().map(|line| line.trim().to_owned()))
}

/// A refusal in the API's own words.
pub(super) fn said(status: StatusCode, answer: &Value) -> String {
    let detail = answer["detail"].as_str().or_else(|| answer["title"].as_str()).unwrap_or("no reason was given");
    let wrong = answer["errors"].as_array().into_iter().flatten();
    let fields: Vec<String> =
        wrong.filter_map(|e| Some(format!("{} {}", e["pointer"].as_str()?, e["detail"].as_str()?))).collect();
    if fields.is_empty() { format!("{status}: {detail}") } else { format!("{status}: {}", fields.join("; ")) }
}

/// When the server wants to be asked again.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The answer's JSON; null where it is none.
pub(super) async fn read(mut response: Response) -> Result<Value, String> {
    let mut text = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| innermost(&e))? {
        if text.len() + chunk.len() > ANSWER_MAX {
            return Err(format!("the answer is longer than {ANSWER_MAX} bytes"));
        }
        text.extend_from_slice(&chunk);
    }
    Ok(serde_json::from_slice(&text).unwrap_or(Value::Null))
}

/// The cause at the bottom: what reqwest wraps around it names the address once more.
pub(super) fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_shown_without_its_password() {
        for (url, want) in [
            ("http://127.0.0.1:8080/x?y@z", "http://127.0.0.1:8080/x?y@z"),
            ("https://ann:pass@host:1/a@b", "https://host:1/a@b"),
            ("http://ann:p@ss@host", "http://host"),
            ("ann:pass@host", "host"),
            ("ftp://ann:pass@ho st", "ftp://ho st"),
        ] {
            assert_eq!(without_userinfo(url), want);
        }
    }
}
