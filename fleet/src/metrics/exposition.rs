//! Prometheus' text format 0.0.4, as its manual has it under "Exposition formats".

use std::fmt::Write as _;

use super::family::{Family, Kind};

/// Maximum number of series of a page; of more, the last ones are left out.
pub const SERIES_MAX: usize = 20_000;

/// A value, and what tells it from others of its family.
#[derive(Debug)]
pub(super) struct Sample<'a> {
    pub(super) labels: Vec<(&'static str, &'a str)>,
    pub(super) value: f64,
}

/// A page as it is written.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    text: String,
    series: usize,
    left_out: usize,
}

impl Exposition {
    /// Writes all samples of a family; nothing when there are none.
    pub(super) fn family<'a>(
        &mut self,
        family: &Family,
        samples: impl IntoIterator<Item = Sample<'a>>,
    ) {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return;
        }
        let Family { name, kind, help } = family;
        let kind = match kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for sample in samples {
            if self.series == SERIES_MAX {
                self.left_out += 1;
                continue;
            }
            self.series += 1;
            self.sample(name, &sample);
        }
    }

    /// Writes the one sample of a family without labels.
    pub(super) fn value(&mut self, family: &Family, value: f64) {
        self.family(family, [Sample { labels: Vec::new(), value }]);
    }

    fn sample(&mut self, name: &str, sample: &Sample<'_>) {
        self.text.push_str(name);
        for (index, (label, value)) in sample.labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            self.write(format_args!("{before}{label}=\"{}\"", escaped(value)));
        }
        let end = if sample.labels.is_empty() { "" } else { "}" };
        self.write(format_args!("{end} {}\n", sample.value));
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        // A string takes everything.
        let _ = self.text.write_fmt(text);
    }

    /// How many series were too many.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }

    /// The page; `last` is written even when there are too many series.
    pub(super) fn end<'a>(
        mut self,
        last: &Family,
        samples: impl IntoIterator<Item = Sample<'a>>,
    ) -> String {
        self.series = 0;
        self.family(last, samples);
        self.text
    }
}

/// A label's value: what would end it, or its line, is escaped.
fn escaped(value: &str) -> String {
    value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

#[cfg(test)]
mod tests {
    use super::super::family::{HOSTS, LEFT_OUT};
    use super::*;

    #[test]
    fn labels_are_escaped_and_too_many_series_are_counted() {
        let mut page = Exposition::default();
        let values = ["a\"} 1\nb", "\\", ""];
        page.family(
            &HOSTS,
            values.map(|v| Sample { labels: vec![("a", v), ("b", v)], value: 0.5 }),
        );
        let many = (0..SERIES_MAX).map(|_| Sample { labels: Vec::new(), value: 1.0 });
        page.family(&HOSTS, many);
        assert_eq!(page.left_out(), 3);
        let text = page.end(&LEFT_OUT, [Sample { labels: Vec::new(), value: 3.0 }]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[2], r#"firmcast_fleet_hosts{a="a\"} 1\nb",b="a\"} 1\nb"} 0.5"#);
        assert_eq!(lines[3], r#"firmcast_fleet_hosts{a="\\",b="\\"} 0.5"#);
        assert_eq!(lines[4], r#"firmcast_fleet_hosts{a="",b=""} 0.5"#);
        assert_eq!(lines.last(), Some(&"firmcast_fleet_left_out 3"));
    }
}
