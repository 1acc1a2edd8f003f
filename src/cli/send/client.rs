//! Owns the talk with the API: one request a batch, sent again where that can help, each wait bounded.

use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde_json::Value;
use std::time::Duration;

use super::answer::Answer;
use super::input::Batch;
use crate::cli::CliError;
use crate::cli::args::Send as Args;

/// How often one batch is sent at most.
const ATTEMPTS_MAX: u32 = 8;

/// How often a server that can't be reached at all is tried: mostly it is the wrong address.
const CONNECTS_MAX: u32 = 3;

/// The longest wait between two attempts, whatever the server asks for.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// One request, its answer included.
const REQUEST_MAX: Duration = Duration::from_secs(60);

/// The largest answer that is read: 500 items of a few hundred bytes, with room for many errors.
const ANSWER_MAX: usize = 16 << 20;

const START_IT: &str = "check --url, and that the fleet runs there (`riskfleet up` starts one)";
const GIVE_TOKEN: &str = "give an API key or JWT that may send for this tenant: --token or RISKFLEET_TOKEN";
const SEND_AGAIN: &str = "send the same file again later: what was taken is not stored twice";

/// A fleet's API.
pub(super) struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
    tenant: Option<String>,
}

/// What to do after an attempt.
enum Attempt {
    Answered(Vec<Answer>),
    Again { wait: Option<Duration>, why: String, advice: &'static str, connects: bool },
    GiveUp { why: String, advice: &'static str },
}

impl Client {
    pub(super) fn new(args: &Args) -> Result<Self, CliError> {
        if !args.url.starts_with("http://") && !args.url.starts_with("https://") {
            return Err(CliError::Misuse(format!("--url must begin with http:// or https://, not {:?}", args.url)));
        }
        let url = format!("{}/v1/events", args.url.trim_end_matches('/'));
        let http = reqwest::Client::builder()
            .user_agent(concat!("riskfleet/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(5))
            .timeout(REQUEST_MAX)
            // A redirect would carry the token and the events to wherever it points.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| CliError::Api { url: url.clone(), why: innermost(&e), advice: START_IT })?;
        let tenant = args.tenant.as_ref().map(ToString::to_string);
        Ok(Self { http, url, token: token(args)?, tenant })
    }

    /// Sends a batch until it is answered, or sending again does not help.
    pub(super) async fn post(&self, batch: &Batch) -> Result<Vec<Answer>, CliError> {
        for attempt in 1..=ATTEMPTS_MAX {
            match self.attempt(batch).await {
                Attempt::Answered(answers) => return Ok(answers),
                Attempt::GiveUp { why, advice } => return Err(self.error(why, advice)),
                Attempt::Again { wait, why, advice, connects } => {
                    if attempt == ATTEMPTS_MAX || (connects && attempt == CONNECTS_MAX) {
                        return Err(self.error(format!("{why} ({attempt} attempts)"), advice));
                    }
                    let backoff = Duration::from_millis(500 << (attempt - 1));
                    tokio::time::sleep(wait.unwrap_or(backoff).min(WAIT_MAX)).await;
                }
            }
        }
        Err(self.error("no attempt was made".into(), SEND_AGAIN))
    }

    fn error(&self, why: String, advice: &'static str) -> CliError {
        CliError::Api { url: self.url.clone(), why, advice }
    }

    async fn attempt(&self, batch: &Batch) -> Attempt {
        let mut request = self.http.post(&self.url).header(CONTENT_TYPE, "application/x-ndjson");
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        if let Some(tenant) = &self.tenant {
            request = request.header("x-tenant-id", tenant);
        }
        let response = match request.body(batch.body.clone()).send().await {
            Ok(response) => response,
            Err(e) if e.is_builder() => {
                return Attempt::GiveUp { why: innermost(&e), advice: "check --url and --token" };
            }
            Err(e) => {
                let (why, connects) = (innermost(&e), e.is_connect());
                return Attempt::Again { wait: None, why, advice: START_IT, connects };
            }
        };
        let (status, wait) = (response.status(), retry_after(&response));
        match read(response).await {
            Ok(answer) => judge(status, wait, &answer, &batch.numbers),
            Err(why) => Attempt::Again { wait, why, advice: SEND_AGAIN, connects: false },
        }
    }
}

/// The token as given, or the first line of its file.
fn token(args: &Args) -> Result<Option<String>, CliError> {
    let Some(path) = &args.token_file else { return Ok(args.token.clone()) };
    let text = std::fs::read_to_string(path).map_err(|e| CliError::Input {
        file: path.display().to_string(),
        why: e.to_string(),
        advice: "check --token-file: it holds the token and nothing else",
    })?;
    Ok(text.lines().next().map(|line| line.trim().to_owned()))
}

/// What an answer means. Items, when there are as many as were sent; else a problem with the whole.
fn judge(status: StatusCode, wait: Option<Duration>, answer: &Value, numbers: &[u64]) -> Attempt {
    let items = match (answer["items"].as_array(), numbers) {
        (Some(items), _) => items.as_slice(),
        (None, [_]) if status.is_success() || status == StatusCode::CONFLICT => std::slice::from_ref(answer),
        (None, [_]) if status == StatusCode::UNPROCESSABLE_ENTITY => std::slice::from_ref(answer),
        (None, _) => &[],
    };
    if items.len() == numbers.len() {
        return Attempt::Answered(numbers.iter().zip(items).map(|(n, item)| Answer::read(*n, item)).collect());
    }
    let said = answer["detail"].as_str().or_else(|| answer["title"].as_str()).unwrap_or("no reason was given");
    let why = format!("{status}: {said}");
    match status.as_u16() {
        401 | 403 => Attempt::GiveUp { why, advice: GIVE_TOKEN },
        404 | 405 | 300..=399 => Attempt::GiveUp { why, advice: START_IT },
        408 | 429 | 500 | 502..=504 => Attempt::Again { wait, why, advice: SEND_AGAIN, connects: false },
        200..=299 => {
            let why = format!("{status}: {} items were answered, {} were sent", items.len(), numbers.len());
            Attempt::GiveUp { why, advice: START_IT }
        }
        _ => Attempt::GiveUp { why, advice: "see what the API says is wrong, and mend the file or the options" },
    }
}

fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The answer's JSON; null where it is none.
async fn read(mut response: Response) -> Result<Value, String> {
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
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
