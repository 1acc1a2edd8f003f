//! Judges the folder of an `up` fleet.

use super::finding::Finding;
use crate::ports::checkup::FolderSeen;

pub(super) fn judge(seen: &FolderSeen) -> Vec<Finding> {
    vec![file(seen), rights(seen), process(seen)]
}

fn file(seen: &FolderSeen) -> Finding {
    if let Some(first) = seen.defects.first() {
        let advice = "stop `up`, keep a copy of the folder, and restore a backup: the disk or another program has \
                      changed the file";
        return Finding::failed("folder.file", format!("the database is damaged: {first}"), advice);
    }
    if seen.journal_mode != "wal" {
        let advice = "stop whatever else opens the file; the next start of `up` sets it back";
        return Finding::warning("folder.file", format!("its journal is {}, not wal", seen.journal_mode), advice);
    }
    Finding::ok("folder.file", "the database is sound")
}

fn rights(seen: &FolderSeen) -> Finding {
    if seen.readable_by_others {
        let advice = "chmod 600 the files in it: they hold every event";
        return Finding::warning("folder.rights", "others than its owner may read the database", advice);
    }
    Finding::ok("folder.rights", "only its owner may read it")
}

fn process(seen: &FolderSeen) -> Finding {
    if seen.running {
        return Finding::ok("folder.process", "`riskfleet up` runs on it");
    }
    Finding::warning("folder.process", "no `riskfleet up` runs on it", "start it: what is pending waits until then")
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn every_bad_state_is_one_finding() {
        let well = FolderSeen { defects: vec![], journal_mode: "wal".into(), readable_by_others: false, running: true };
        type Break = fn(&mut FolderSeen);
        let cases: &[(&str, Verdict, Break)] = &[
            ("folder.file", Verdict::Failed, |f| f.defects = vec!["row 3 missing from index".into()]),
            ("folder.file", Verdict::Warning, |f| f.journal_mode = "delete".into()),
            ("folder.rights", Verdict::Warning, |f| f.readable_by_others = true),
            ("folder.process", Verdict::Warning, |f| f.running = false),
        ];
        let bad = |seen: &FolderSeen| -> Vec<(&'static str, Verdict)> {
            judge(seen).into_iter().map(|f| (f.check, f.verdict)).filter(|f| f.1 != Verdict::Ok).collect()
        };
        assert_eq!(bad(&well), []);
        for (check, verdict, breaks) in cases {
            let mut seen = well.clone();
            breaks(&mut seen);
            assert_eq!(bad(&seen), [(*check, *verdict)], "{seen:?}");
        }
    }
}
