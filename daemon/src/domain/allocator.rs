//! What the framework's caching allocator holds on a trainer's device, as the trainer sent it with its metrics.

use std::time::Instant;

use super::Reading;

/// The device's ordinal, as the trainer counts.
const DEVICE: &str = "cuda_device";
const SOURCE: &str = "trainer";

/// The numbers that came last, each with its own age.
#[derive(Clone, Debug, PartialEq)]
pub struct AllocatorSample {
    /// In live tensors.
    pub allocated_bytes: Reading,
    /// Taken from the device: allocated and cached.
    pub reserved_bytes: Reading,
    /// In blocks that are in use or wait for a stream.
    pub active_bytes: Reading,
    /// Times that it gave its cache back and tried again.
    pub retries: Reading,
    /// Times that it had none to give.
    pub ooms: Reading,
    /// As the trainer counts its devices.
    pub device: Option<u32>,
}

impl AllocatorSample {
    /// From a trainer's metrics, each with when it came; `last` gives the last one of a name. None: it has sent none.
    pub fn of(last: impl Fn(&str) -> Option<(f64, Instant)>, now: Instant) -> Option<Self> {
        let reading = |name| match last(name) {
            Some((value, at)) => Reading::known(value, at, SOURCE),
            None => Reading::unknown("the trainer has not sent it", now, SOURCE),
        };
        let sample = Self {
            allocated_bytes: reading("cuda_allocated_bytes"),
            reserved_bytes: reading("cuda_reserved_bytes"),
            active_bytes: reading("cuda_active_bytes"),
            retries: reading("cuda_alloc_retries"),
            ooms: reading("cuda_ooms"),
            device: last(DEVICE).and_then(|(value, _)| ordinal(value)),
        };
        let sent = [
            &sample.allocated_bytes,
            &sample.reserved_bytes,
            &sample.active_bytes,
            &sample.retries,
            &sample.ooms,
        ];
        sent.iter()
            .any(|reading| reading.value.is_ok())
            .then_some(sample)
    }
}

/// A metric is a number of any kind; a device's is a whole one.
fn ordinal(value: f64) -> Option<u32> {
    let is_one = value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value);
    is_one.then_some(value as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_sent_is_not_known_and_nothing_at_all_is_none() {
        let now = Instant::now();
        assert_eq!(AllocatorSample::of(|_| None, now), None);
        // The ordinal alone is no number of the allocator.
        let device = |name: &str| (name == DEVICE).then_some((1.0, now));
        assert_eq!(AllocatorSample::of(device, now), None);

        let sent = |name: &str| match name {
            "cuda_reserved_bytes" => Some((1024.0, now)),
            "cuda_device" => Some((3.0, now)),
            _ => None,
        };
        let sample = AllocatorSample::of(sent, now).expect("one number was sent");
        assert_eq!(sample.reserved_bytes.value, Ok(1024.0));
        assert_eq!(
            sample.ooms.value,
            Err("the trainer has not sent it".to_owned())
        );
        assert_eq!(sample.device, Some(3));
    }

    #[test]
    fn an_ordinal_is_a_whole_number() {
        let table = [
            (0.0, Some(0)),
            (7.0, Some(7)),
            (0.5, None),
            (-1.0, None),
            (f64::NAN, None),
            (f64::INFINITY, None),
        ];
        for (value, expected) in table {
            assert_eq!(ordinal(value), expected, "{value}");
        }
    }
}
