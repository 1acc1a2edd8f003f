//! Owns the reading of Prometheus' text format: sums of counters, quantiles of histograms. Members'
//! scrapes are added up. Never asks anybody.

use std::collections::BTreeMap;

/// The scrapes of several processes, put together.
#[derive(Debug, Default)]
pub(crate) struct Scrape {
    text: String,
}

/// Two quantiles of a histogram, in its unit; not a number when nothing was recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quantiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

impl Scrape {
    /// Adds a process's scrape.
    pub(crate) fn add(&mut self, text: &str) {
        self.text.push_str(text);
        self.text.push('\n');
    }

    /// `(labels, value)` of every sample with this name.
    fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.text.lines().filter_map(move |line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (family, labels) = series.split_once('{').unwrap_or((series, ""));
            if family == name { Some((labels, value.parse().ok()?)) } else { None }
        })
    }

    /// The sum over all labels and processes.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.samples(name).map(|(_, value)| value).sum()
    }

    /// The mean of a histogram.
    pub(crate) fn mean(&self, name: &str) -> f64 {
        self.sum(&format!("{name}_sum")) / self.sum(&format!("{name}_count"))
    }

    /// Quantiles of a histogram, linear within a bucket, as PromQL's `histogram_quantile`.
    pub(crate) fn quantiles(&self, name: &str) -> Quantiles {
        let mut buckets: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for (labels, count) in self.samples(&format!("{name}_bucket")) {
            let bound = labels.split("le=\"").nth(1).and_then(|l| l.split('"').next());
            let Some(bound) = bound.and_then(|b| b.parse::<f64>().ok()) else { continue };
            // Bit patterns of positive floats sort as the floats do; +Inf is the last.
            let bucket = buckets.entry(bound.to_bits()).or_insert((bound, 0.0));
            bucket.1 += count;
        }
        let buckets: Vec<(f64, f64)> = buckets.into_values().collect();
        Quantiles { p50: quantile(&buckets, 0.50), p99: quantile(&buckets, 0.99) }
    }
}

/// `buckets`: upper bound and cumulative count, ascending.
fn quantile(buckets: &[(f64, f64)], q: f64) -> f64 {
    let Some((_, total)) = buckets.last().copied().filter(|(_, total)| *total > 0.0) else { return f64::NAN };
    let rank = q * total;
    let (mut lower, mut below) = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= rank {
            // In the last bucket, which has no upper bound, its lower bound is all that is known.
            return if bound.is_finite() { lower + (bound - lower) * (rank - below) / (count - below) } else { lower };
        }
        (lower, below) = (*bound, *count);
    }
    lower
}

#[cfg(test)]
mod tests {
    use super::Scrape;

    #[test]
    fn scrapes_of_several_processes_add_up() {
        let mut scrape = Scrape::default();
        for process in 1..=2 {
            scrape.add(&format!(
                "# TYPE n counter\nn{{kind=\"a b\"}} {process}\nn{{kind=\"c\"}} 1\nnn 50\n\
                 s_bucket{{le=\"0.1\"}} 5\ns_bucket{{le=\"1\"}} 10\ns_bucket{{le=\"+Inf\"}} 10\ns_sum 3\ns_count 10"
            ));
        }
        assert_eq!(scrape.sum("n"), 5.0);
        assert_eq!(scrape.mean("s"), 0.3);
        let quantiles = scrape.quantiles("s");
        assert!((quantiles.p50 - 0.1).abs() < 1e-9 && (quantiles.p99 - 0.982).abs() < 1e-9, "{quantiles:?}");
        assert!(scrape.quantiles("absent").p50.is_nan());
    }
}
