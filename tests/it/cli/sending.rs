//! Tests: `send` against an API that answers as the contract says, and `completions`.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use riskfleet::cli::{Exit, Screen, args, completions, send};
use serde_json::{Value, json};
use std::collections::{HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// What the API has seen, and how it answers the next requests; then as it should.
#[derive(Default)]
struct Seen {
    keys: HashSet<String>,
    headers: Vec<HeaderMap>,
    next: VecDeque<Response>,
}

type Api = Arc<Mutex<Seen>>;

async fn submit(State(api): State<Api>, headers: HeaderMap, body: String) -> Response {
    let mut seen = api.lock().expect("whole");
    seen.headers.push(headers);
    if let Some(answer) = seen.next.pop_front() {
        return answer;
    }
    let items: Vec<Value> = body.lines().map(|line| item(&mut seen, line)).collect();
    let status =
        if items.iter().any(|i| i.get("type").is_some()) { StatusCode::MULTI_STATUS } else { StatusCode::ACCEPTED };
    (status, Json(json!({ "items": items }))).into_response()
}

fn item(seen: &mut Seen, line: &str) -> Value {
    let problem = |status: u16, detail: &str| json!({ "type": "about:blank", "status": status, "detail": detail });
    let Ok(event) = serde_json::from_str::<Value>(line) else { return problem(400, "broken JSON") };
    let Some(key) = event["idempotency_key"].as_str() else { return problem(400, "idempotency key missing") };
    if event["amount"].is_string() {
        let mut wrong = problem(422, "invalid event");
        wrong["errors"] = json!([{ "pointer": "/amount", "detail": "must be an integer" }]);
        return wrong;
    }
    let replayed = !seen.keys.insert(key.to_owned());
    json!({ "event_id": format!("event-of-{}", &key[key.len() - 2..]), "status": "received", "replayed": replayed })
}

async fn api() -> (String, Api) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let api = Api::default();
    let router = Router::new().route("/v1/events", post(submit)).with_state(api.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, api)
}

/// A file of a test's own, gone with it.
struct File(PathBuf);

impl File {
    fn new(text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("riskfleet-{}", crate::harness::namespace()));
        std::fs::write(&path, text).expect("written");
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

async fn run(url: &str, text: &str, json: bool) -> (Exit, String, String) {
    let file = File::new(text);
    let args = args::Send {
        file: file.0.clone(),
        access: args::Access { url: url.into(), token: Some("secret".into()), token_file: None },
        tenant: Some("acme".parse().expect("legal")),
        json,
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = send(&args, &mut Screen::plain(&mut out, &mut err)).await;
    (exit, String::from_utf8(out).expect("text"), String::from_utf8(err).expect("text"))
}

#[tokio::test]
async fn each_line_has_its_answer_and_a_refused_one_fails_the_command() {
    let (url, api) = api().await;
    let text = "{\"version\":\"1\",\"kind\":\"risk\"}\ngarbage\n\n{\"amount\":\"x\"}\n{\"idempotency_key\":\"my\"}\n";
    let (exit, out, err) = run(&url, text, false).await;
    let want = "\
LINE  ANSWER    EVENT        WHY
   1  accepted  event-of-:1  received
   2  refused   -            broken JSON
   4  refused   -            /amount: must be an integer
   5  accepted  event-of-my  received
sent 4: 2 accepted, 0 replayed, 2 refused
";
    assert_eq!((exit, out.as_str(), err.as_str()), (Exit::Failed, want, ""));
    {
        let seen = api.lock().expect("whole");
        assert_eq!(seen.headers[0]["authorization"], "Bearer secret");
        assert_eq!(seen.headers[0]["x-tenant-id"], "acme");
        assert_eq!(seen.headers[0]["content-type"], "application/x-ndjson");
    }
    let (_, out, _) = run(&url, text, true).await;
    let shown: Value = serde_json::from_str(&out).expect("one document");
    assert_eq!((&shown["accepted"], &shown["replayed"], &shown["refused"]), (&json!(0), &json!(2), &json!(2)));
    assert_eq!(shown["items"][2]["errors"][0]["pointer"], "/amount");
}

#[tokio::test]
async fn many_events_go_in_batches_and_a_busy_api_is_asked_again() {
    let (url, api) = api().await;
    let busy = || (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")], "busy").into_response();
    api.lock().expect("whole").next.extend([busy(), busy()]);
    let events: String = (0..2_345).map(|n| format!("{{\"amount\":{n}}}\n")).collect();
    let (exit, out, _) = run(&url, &events, false).await;
    assert_eq!((exit, out.as_str()), (Exit::Done, "sent 2345: 2345 accepted, 0 replayed, 0 refused\n"));
    assert_eq!(api.lock().expect("whole").headers.len(), 7);
    let (exit, out, _) = run(&url, &events, false).await;
    assert_eq!((exit, out.as_str()), (Exit::Done, "sent 2345: 0 accepted, 2345 replayed, 0 refused\n"));
}

#[tokio::test]
async fn an_array_and_a_single_event_are_sent_too() {
    let (url, api) = api().await;
    let (exit, out, _) = run(&url, "[{\"amount\":1},\n {\"amount\":2}]", false).await;
    assert_eq!(exit, Exit::Done);
    assert!(out.ends_with("sent 2: 2 accepted, 0 replayed, 0 refused\n"), "{out}");
    let (exit, out, _) = run(&url, "{\n  \"amount\": 3\n}\n", false).await;
    assert_eq!(exit, Exit::Done);
    assert!(out.ends_with("sent 1: 1 accepted, 0 replayed, 0 refused\n"), "{out}");
    assert_eq!(api.lock().expect("whole").keys.len(), 3);
}

#[tokio::test]
async fn what_stops_the_whole_is_said_with_what_to_do() {
    let (url, api) = api().await;
    let problem = (StatusCode::UNAUTHORIZED, Json(json!({ "title": "Unauthorized", "detail": "no credential" })));
    api.lock().expect("whole").next.push_back(problem.into_response());
    let (exit, out, err) = run(&url, "{}\n{}\n", false).await;
    assert_eq!((exit, out.as_str()), (Exit::Failed, ""));
    assert!(err.contains(": 401 Unauthorized: no credential\n  next: give an API key or JWT"), "{err}");
    api.lock().expect("whole").next.push_back((StatusCode::OK, Json(json!({ "items": [] }))).into_response());
    let (exit, _, err) = run(&url, "{}\n{}\n", false).await;
    assert_eq!(exit, Exit::Failed);
    assert!(err.contains("0 items were answered, 2 were sent"), "{err}");
    let (exit, _, err) = run("ftp://x", "{}", false).await;
    assert_eq!(exit, Exit::Misused);
    assert!(err.starts_with("--url must begin with http://"), "{err}");
    let (exit, _, err) = run(&url, "", false).await;
    assert_eq!(exit, Exit::Failed);
    assert!(err.contains(": it is empty\n  next: give one event"), "{err}");
    let gone = File::new("x").0.clone();
    let access = args::Access { url, token: None, token_file: None };
    let args = args::Send { file: gone, access, tenant: None, json: false };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    assert_eq!(send(&args, &mut Screen::plain(&mut out, &mut err)).await, Exit::Failed);
    assert!(String::from_utf8_lossy(&err).contains("No such file"), "{}", String::from_utf8_lossy(&err));
}

#[tokio::test]
async fn an_api_that_is_not_there_is_not_tried_for_long() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    drop(listener);
    let began = std::time::Instant::now();
    let (exit, _, err) = run(&url, "{}", false).await;
    assert_eq!(exit, Exit::Failed);
    assert!(err.contains("(3 attempts)\n  next: check --url"), "{err}");
    assert!(began.elapsed().as_secs() < 10);
}

#[test]
fn completions_are_a_script() {
    for shell in [clap_complete::Shell::Bash, clap_complete::Shell::Zsh, clap_complete::Shell::Fish] {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        assert_eq!(completions(shell, &mut Screen::plain(&mut out, &mut err)), Exit::Done);
        let script = String::from_utf8(out).expect("text");
        assert!(script.contains("riskfleet") && script.contains("explain"), "{shell}");
    }
}
