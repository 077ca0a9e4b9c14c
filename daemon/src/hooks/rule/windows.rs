//! Windows over the last n events of one rank at which a number was known and finite, and how they outlive the daemon.

use std::collections::VecDeque;

use serde_json::{Value as Json, json};

use super::tree::Number;

/// A window is no longer.
pub(super) const LONGEST: usize = 100_000;
/// All windows of a rule together hold no more of a rank.
pub(super) const MOST: usize = 200_000;
/// So much of a series outlives the daemon: its newest values. A hook's state is written with each group of events.
pub(super) const KEPT: usize = 1024;

/// What of the last n.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Over {
    Ewma,
    Mean,
    Std,
    Lowest,
    Highest,
    Slope,
    Ago,
}

/// A number whose last values are kept.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series {
    pub(super) of: Number,
    /// How many.
    pub(super) length: usize,
}

/// One window; windows of one number share its series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Window {
    pub(super) over: Over,
    /// By its place among the rule's series.
    pub(super) series: usize,
    pub(super) n: usize,
}

impl Window {
    /// How many values it needs to be kept.
    pub(super) fn length(&self) -> usize {
        match self.over {
            Over::Ewma => 0,
            Over::Ago => self.n + 1,
            _ => self.n,
        }
    }
}

/// What one rank's windows hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Held {
    /// By series, the oldest first.
    values: Vec<VecDeque<f64>>,
    /// By window; None: nothing yet, or no [`Over::Ewma`].
    means: Vec<Option<f64>>,
}

impl Held {
    pub(super) fn new(series: &[Series], windows: &[Window]) -> Self {
        Self {
            values: vec![VecDeque::new(); series.len()],
            means: vec![None; windows.len()],
        }
    }

    /// One more value of a series. One that is not finite would stay in every mean, and is left out.
    pub(super) fn add(&mut self, at: usize, series: &Series, windows: &[Window], value: f64) {
        if !value.is_finite() {
            return;
        }
        if series.length > 0 {
            let values = &mut self.values[at];
            if values.len() == series.length {
                values.pop_front();
            }
            values.push_back(value);
        }
        for (window, mean) in windows.iter().zip(&mut self.means) {
            if window.series == at && window.over == Over::Ewma {
                let share = 2.0 / (window.n as f64 + 1.0);
                let before = mean.unwrap_or(value);
                *mean = Some(before + share * (value - before));
            }
        }
    }

    /// A window's number now; None: there are too few values.
    pub(super) fn read(&self, at: usize, window: &Window) -> Option<f64> {
        let values = &self.values[window.series];
        let last = values.range(values.len().saturating_sub(window.n)..);
        let count = last.len() as f64;
        if window.over != Over::Ewma && last.len() == 0 {
            return None;
        }
        let mean = || last.clone().sum::<f64>() / count;
        match window.over {
            Over::Ewma => self.means[at],
            Over::Mean => Some(mean()),
            Over::Std => {
                let mean = mean();
                let squares = last.map(|value| (value - mean).powi(2)).sum::<f64>();
                Some((squares / count).sqrt())
            }
            Over::Lowest => last.copied().reduce(f64::min),
            Over::Highest => last.copied().reduce(f64::max),
            Over::Slope if last.len() < 2 => None,
            Over::Slope => {
                let (mean, middle) = (mean(), (count - 1.0) / 2.0);
                let rise = last
                    .enumerate()
                    .map(|(x, y)| (x as f64 - middle) * (y - mean));
                // The sum of (x - middle)^2 over 0..count.
                Some(rise.sum::<f64>() / (count * (count * count - 1.0) / 12.0))
            }
            Over::Ago => {
                let before = values.len().checked_sub(window.n + 1)?;
                values.get(before).copied()
            }
        }
    }

    /// For the journal.
    pub(super) fn state(&self) -> Json {
        let newest = |values: &VecDeque<f64>| -> Json {
            let from = values.len().saturating_sub(KEPT);
            values.range(from..).copied().collect()
        };
        json!({
            "series": self.values.iter().map(newest).collect::<Vec<_>>(),
            "means": self.means,
        })
    }

    /// Back again. Errors: it is of other windows.
    pub(super) fn restore(
        state: &Json,
        series: &[Series],
        windows: &[Window],
    ) -> Result<Self, String> {
        let list = |key: &str, length: usize| {
            let list = state[key].as_array().filter(|list| list.len() == length);
            list.ok_or_else(|| format!("{key} are not {length}"))
        };
        let number = |json: &Json| {
            let number = json.as_f64().filter(|number| number.is_finite());
            number.ok_or_else(|| format!("{json} is no number"))
        };
        let mut held = Self::new(series, windows);
        for ((values, series), json) in
            (held.values.iter_mut().zip(series)).zip(list("series", series.len())?)
        {
            let saved = json.as_array().map_or(&[][..], Vec::as_slice);
            let from = saved.len().saturating_sub(series.length);
            *values = saved[from..].iter().map(number).collect::<Result<_, _>>()?;
        }
        for (mean, json) in held.means.iter_mut().zip(list("means", windows.len())?) {
            *mean = match json {
                Json::Null => None,
                json => Some(number(json)?),
            };
        }
        Ok(held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The window's number after each value.
    fn after_each(over: Over, n: usize, values: &[f64]) -> Vec<Option<f64>> {
        let window = Window { over, series: 0, n };
        let series = Series {
            of: Number::Input(0),
            length: window.length(),
        };
        let windows = [window];
        let mut held = Held::new(std::slice::from_ref(&series), &windows);
        let mut read = Vec::new();
        for value in values {
            held.add(0, &series, &windows, *value);
            read.push(held.read(0, &windows[0]));
        }
        read
    }

    #[test]
    fn windows_are_what_a_hand_computes() {
        let bad = f64::NAN;
        for (over, n, values, expected) in [
            // Of 2 / (3 + 1) = 0.5 each.
            (
                Over::Ewma,
                3,
                &[4.0, 8.0, bad, 2.0][..],
                &[4.0, 6.0, 6.0, 4.0][..],
            ),
            (Over::Ewma, 1, &[4.0, 8.0], &[4.0, 8.0]),
            (Over::Mean, 3, &[3.0, 5.0, 10.0, 0.0], &[3.0, 4.0, 6.0, 5.0]),
            (
                Over::Mean,
                2,
                &[1.0, f64::INFINITY, 3.0, bad, 5.0],
                &[1.0, 1.0, 2.0, 2.0, 4.0],
            ),
            (
                Over::Std,
                4,
                &[2.0, 4.0, 4.0, 6.0],
                &[0.0, 1.0, 8_f64.sqrt() / 3.0, 2_f64.sqrt()],
            ),
            (
                Over::Lowest,
                2,
                &[3.0, 1.0, 2.0, 5.0],
                &[3.0, 1.0, 1.0, 2.0],
            ),
            (
                Over::Highest,
                2,
                &[3.0, 1.0, 2.0, 0.5],
                &[3.0, 3.0, 2.0, 2.0],
            ),
        ] {
            let read = after_each(over, n, values);
            for (read, expected) in read.iter().zip(expected) {
                let read = read.expect("there is a value");
                assert!(
                    (read - expected).abs() < 1e-12,
                    "{over:?}: {read} for {expected}"
                );
            }
            assert_eq!(read.len(), expected.len());
        }
        let ago = after_each(Over::Ago, 2, &[1.0, 2.0, bad, 3.0, 4.0]);
        assert_eq!(ago, [None, None, None, Some(1.0), Some(2.0)]);
        let slope = after_each(Over::Slope, 3, &[1.0, 3.0, 5.0, 4.0]);
        assert_eq!(slope, [None, Some(2.0), Some(2.0), Some(0.5)]);
        assert_eq!(after_each(Over::Mean, 3, &[bad, bad]), [None, None]);
        assert_eq!(after_each(Over::Ewma, 3, &[bad]), [None]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_does_not_fit_is_refused() {
        let windows = [
            Window {
                over: Over::Mean,
                series: 0,
                n: 2000,
            },
            Window {
                over: Over::Ewma,
                series: 0,
                n: 9,
            },
        ];
        let series = [Series {
            of: Number::Input(0),
            length: 2000,
        }];
        let mut held = Held::new(&series, &windows);
        for value in 0..3000 {
            held.add(0, &series[0], &windows, f64::from(value) + 0.1);
        }
        let state = held.state();
        assert_eq!(state["series"][0].as_array().map(Vec::len), Some(KEPT));
        let back = Held::restore(&state, &series, &windows).unwrap();
        assert_eq!(back.read(1, &windows[1]), held.read(1, &windows[1]));
        let newest = Window {
            over: Over::Mean,
            series: 0,
            n: KEPT,
        };
        assert_eq!(back.read(0, &newest), held.read(0, &newest));
        for state in [
            json!({}),
            json!({"series": [], "means": [null, null]}),
            json!({"series": [[1]], "means": [null]}),
            json!({"series": [["x"]], "means": [null, null]}),
        ] {
            assert!(Held::restore(&state, &series, &windows).is_err(), "{state}");
        }
    }
}
