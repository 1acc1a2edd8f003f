//! Judges a RabbitMQ server and the inbox on it; the partitions' queues are judged beside.

use super::finding::{Finding, thousands};
use crate::config::Settings;
use crate::ports::checkup::RabbitSeen;

/// The oldest version that the topology was tried on.
const VERSION_MIN: (u32, u32) = (3, 10);
/// The default of `max_message_size` since 4.0 (RabbitMQ release notes 4.0.0); 128 MiB before.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

pub(super) fn judge(seen: &RabbitSeen, settings: Option<&Settings>) -> Vec<Finding> {
    let mut findings = vec![server(seen)];
    findings.extend(settings.and_then(|s| packs(seen, s)));
    findings.extend([inbox(seen), rejected(seen)].into_iter().flatten());
    findings
}

fn numbers(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

fn server(seen: &RabbitSeen) -> Finding {
    let version = seen.version.as_deref();
    let shown =
        version.map_or_else(|| "it answers; its version is not told over TLS".into(), |v| format!("version {v}"));
    if seen.blocked {
        return Finding::failed(
            "rabbitmq",
            format!("{shown}; it takes no messages"),
            "look at its memory and disk alarms (rabbitmq-diagnostics alarms): what is accepted waits in the outbox",
        );
    }
    if version.and_then(numbers).is_some_and(|v| v < VERSION_MIN) {
        return Finding::failed("rabbitmq", format!("{shown}, older than 3.10"), "update the server to 3.10 or newer");
    }
    Finding::ok("rabbitmq", shown)
}

fn packs(seen: &RabbitSeen, settings: &Settings) -> Option<Finding> {
    let modern = seen.version.as_deref().and_then(numbers).is_none_or(|v| v >= (4, 0));
    (modern && settings.pack_bytes_max >= MESSAGE_BYTES_MAX).then(|| {
        Finding::failed(
            "rabbitmq.packs",
            format!(
                "packs of up to {} bytes; the server's max_message_size is 16 MiB unless set",
                settings.pack_bytes_max
            ),
            "set RISKFLEET_PACK_BYTES_MAX lower (131072 is the default): a larger message closes the channel, for ever \
             again",
        )
    })
}

fn inbox(seen: &RabbitSeen) -> Option<Finding> {
    let inbox = seen.inbox?;
    let shown = format!("{} messages ready, {} consumers", thousands(inbox.ready), inbox.consumers);
    Some(match (inbox.consumers, inbox.ready) {
        (0, 1..) => Finding::failed(
            "rabbitmq.inbox",
            shown,
            "start an ingest (riskfleet-ingest serve): nobody takes what was sent",
        ),
        (0, 0) => Finding::warning("rabbitmq.inbox", shown, "start an ingest (riskfleet-ingest serve)"),
        _ => Finding::ok("rabbitmq.inbox", shown),
    })
}

fn rejected(seen: &RabbitSeen) -> Option<Finding> {
    let parked = seen.rejected?.ready;
    (parked > 0).then(|| {
        Finding::warning(
            "rabbitmq.rejected",
            format!("{} inbox messages could not be taken", thousands(parked)),
            "read the header x-reason of each, or the table inbox_rejected, and tell their producer; then purge the queue",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;
    use crate::config::{Sources, load};
    use crate::ports::checkup::Depth;

    #[test]
    fn every_bad_state_is_one_finding() {
        use Verdict::{Failed, Warning};
        let depth = |ready, consumers| Some(Depth { ready, consumers });
        let well = RabbitSeen {
            version: Some("3.10.8".into()),
            blocked: false,
            queues: vec![],
            inbox: depth(3, 1),
            rejected: depth(0, 0),
        };
        type Break = fn(&mut RabbitSeen);
        let cases: &[(&str, Verdict, Break)] = &[
            ("rabbitmq", Failed, |r| r.blocked = true),
            ("rabbitmq", Failed, |r| r.version = Some("3.9.29".into())),
            ("rabbitmq.inbox", Failed, |r| r.inbox = Some(Depth { ready: 1, consumers: 0 })),
            ("rabbitmq.inbox", Warning, |r| r.inbox = Some(Depth { ready: 0, consumers: 0 })),
            ("rabbitmq.rejected", Warning, |r| r.rejected = Some(Depth { ready: 2, consumers: 0 })),
        ];
        let bad = |seen: &RabbitSeen, settings: Option<&Settings>| -> Vec<(&'static str, Verdict)> {
            let findings = judge(seen, settings).into_iter();
            findings.map(|f| (f.check, f.verdict)).filter(|f| f.1 != Verdict::Ok).collect()
        };
        assert_eq!(bad(&well, None), []);
        for (check, verdict, breaks) in cases {
            let mut seen = well.clone();
            breaks(&mut seen);
            assert_eq!(bad(&seen, None), [(*check, *verdict)], "{seen:?}");
        }
        let flags = vec![("pack_bytes_max".to_owned(), "16777216".to_owned())];
        let settings = load(&Sources { flags, ..Sources::default() }).expect("legal");
        assert_eq!(bad(&well, Some(&settings)), [], "128 MiB before 4.0");
        let modern = RabbitSeen { version: Some("4.1.0".into()), ..well };
        assert_eq!(bad(&modern, Some(&settings)), [("rabbitmq.packs", Failed)]);
    }
}
