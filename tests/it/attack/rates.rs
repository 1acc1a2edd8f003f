//! Rates: guessing credentials is slow, and one credential cannot take the whole program.

use serde_json::Value;

use super::{EVERY_ROLE, Target, bearer};
use crate::harness::fleet::http;

async fn ask(target: &Target, token: &str) -> (u16, Option<String>, String) {
    let request = http().get(target.url("/v1/tenant/context")).header("authorization", token);
    let answer = request.send().await.expect("an answer");
    let wait = answer.headers().get("retry-after").map(|v| v.to_str().expect("a text").to_owned());
    let (status, problem) = (answer.status().as_u16(), answer.json::<Value>().await.expect("JSON"));
    (status, wait, problem["type"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_guesses_waits_and_the_right_guess_waits_too() {
    let target = Target::closed(&[("RISKFLEET_REFUSED_REQUESTS_PER_S", "2")]).await;
    let good = bearer("acme", EVERY_ROLE);
    assert_eq!(ask(&target, &good).await.0, 200);
    let mut refused = Vec::new();
    for n in 0..40 {
        refused.push(ask(&target, &format!("Bearer guess-{n}")).await);
    }
    assert!(refused.iter().filter(|(status, ..)| *status == 401).count() < 20, "{refused:?}");
    let limited = refused.iter().find(|(status, ..)| *status == 429).expect("some have to wait");
    assert_eq!((limited.1.as_deref(), limited.2.as_str()), (Some("1"), "urn:riskfleet:problem:too-many-requests"));
    // Right behind a refusal: otherwise the right one among many guesses would still be found.
    let guesses = futures::future::join_all((0..20).map(|_| ask(&target, "Bearer guess"))).await;
    assert!(guesses.iter().any(|(status, ..)| *status == 429));
    assert_eq!(ask(&target, &good).await.0, 429);
    let metrics = target.process.metrics().await;
    assert!(metrics.sum("riskfleet_http_limited_total") > 0.0);
    for open in ["/health", "/health/live", "/metrics", "/openapi.json"] {
        let answer = http().get(target.url(open)).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{open} is not counted");
    }
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    assert_eq!(ask(&target, &good).await.0, 200, "and then it is let in again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_proxy_the_address_is_what_the_proxy_says_last() {
    let own = [("RISKFLEET_REFUSED_REQUESTS_PER_S", "1"), ("RISKFLEET_BEHIND_PROXY", "true")];
    let target = Target::closed(&own).await;
    let ask = |forwarded: &'static str, token: String| {
        let request = http().get(target.url("/v1/tenant/context")).header("authorization", token);
        async move { request.header("x-forwarded-for", forwarded).send().await.expect("an answer").status().as_u16() }
    };
    let good = || bearer("acme", EVERY_ROLE);
    for n in 0..10 {
        // The caller writes the first addresses itself, another one each time.
        let forwarded = if n % 2 == 0 { "1.1.1.1, 203.0.113.9" } else { "2.2.2.2, 203.0.113.9" };
        ask(forwarded, "Bearer guess".into()).await;
    }
    assert_eq!(ask("3.3.3.3, 203.0.113.9", "Bearer guess".into()).await, 429);
    assert_eq!(ask("203.0.113.9, 198.51.100.7", good()).await, 200, "another caller of the same proxy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_has_its_rate_and_others_have_theirs() {
    let target = Target::closed(&[("RISKFLEET_CALLER_REQUESTS_PER_S", "5")]).await;
    let (acme, globex) = (bearer("acme", EVERY_ROLE), bearer("globex", EVERY_ROLE));
    let asked = futures::future::join_all((0..60).map(|_| ask(&target, &acme))).await;
    let taken = asked.iter().filter(|(status, ..)| *status == 200).count();
    assert!((5..50).contains(&taken), "{taken} of 60 at 5 a second");
    assert!(asked.iter().all(|(status, wait, _)| *status == 200 || (*status, wait.is_some()) == (429, true)));
    assert_eq!(ask(&target, &globex).await.0, 200);
}
