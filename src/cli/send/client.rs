//! Owns the sending of batches to the API: one request a batch, sent again where that can help, each
//! wait bounded.

use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use std::time::Duration;

use super::answer::Answer;
use super::input::Batch;
use crate::cli::CliError;
use crate::cli::args::Send as Args;
use crate::cli::http::{Api, START_IT, WAIT_MAX, innermost, read, retry_after, said};

/// Where events go.
const PATH: &str = "/v1/events";

/// How often one batch is sent at most.
const ATTEMPTS_MAX: u32 = 8;

/// How often a server that can't be reached at all is tried: mostly it is the wrong address.
const CONNECTS_MAX: u32 = 3;

const GIVE_TOKEN: &str = "give an API key or JWT that may send for this tenant: --token or RISKFLEET_TOKEN";
const SEND_AGAIN: &str = "send the same file again later: what was taken is not stored twice";

/// A fleet's API.
pub(super) struct Client {
    api: Api,
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
        Ok(Self { api: Api::new(&args.access)?, tenant: args.tenant.as_ref().map(ToString::to_string) })
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
        CliError::Api { url: self.api.shown(PATH), why, advice }
    }

    async fn attempt(&self, batch: &Batch) -> Attempt {
        let mut request = self.api.request(Method::POST, PATH).header(CONTENT_TYPE, "application/x-ndjson");
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
    let why = said(status, answer);
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
