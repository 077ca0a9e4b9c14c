//! One device's questions to the driver: which answer is final, which ends the turn, and how it is said.

use std::collections::BTreeSet;

use nvml_wrapper::error::NvmlError;

pub(super) const LOST: &str = "GPU is lost";
const NOT_SUPPORTED: &str = "not supported by the driver for this GPU";

/// Why a call failed, for people.
pub(super) fn words(error: &NvmlError) -> String {
    match error {
        NvmlError::NotSupported => NOT_SUPPORTED.to_owned(),
        NvmlError::GpuLost => LOST.to_owned(),
        NvmlError::NoPermission => "the driver does not permit it to this user".to_owned(),
        NvmlError::FailedToLoadSymbol(_) | NvmlError::FunctionNotFound => {
            "the driver is too old for it".to_owned()
        }
        error => format!("NVML: {error}"),
    }
}

/// The handle is of no use any more: the driver was unloaded, restarted or replaced.
pub(super) fn driver_is_gone(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::Uninitialized | NvmlError::DriverNotLoaded | NvmlError::LibRmVersionMismatch
    )
}

/// What ends a device's turn.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ended {
    /// The device fell off the bus.
    Lost,
    /// The driver went; why.
    Driver(String),
}

/// Questions that this device, or one of its slices, does not support; they are not asked again.
#[derive(Debug, Default)]
pub(super) struct Refused(BTreeSet<(Option<u32>, &'static str)>);

impl Refused {
    /// The device is another one now: it is asked again.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// One device's turn.
pub(super) struct Asked<'a> {
    refused: &'a mut Refused,
    ended: Option<Ended>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Unanswered {
    pub(super) why: String,
    pub(super) is_unsupported: bool,
}

impl<'a> Asked<'a> {
    pub(super) fn new(refused: &'a mut Refused) -> Self {
        let ended = None;
        Self { refused, ended }
    }

    /// Asks the whole device, unless it is known that there is no answer.
    pub(super) fn ask<T>(
        &mut self,
        what: &'static str,
        call: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Result<T, Unanswered> {
        self.ask_of(None, what, call)
    }

    /// The same of a slice, by its place: what one does not support another may.
    pub(super) fn ask_of<T>(
        &mut self,
        slice: Option<u32>,
        what: &'static str,
        call: impl FnOnce() -> Result<T, NvmlError>,
    ) -> Result<T, Unanswered> {
        let unanswered = |why: &str, is_unsupported| Unanswered {
            why: why.to_owned(),
            is_unsupported,
        };
        match &self.ended {
            Some(Ended::Lost) => return Err(unanswered(LOST, false)),
            Some(Ended::Driver(why)) => return Err(unanswered(why, false)),
            None => {}
        }
        if self.refused.0.contains(&(slice, what)) {
            return Err(unanswered(NOT_SUPPORTED, true));
        }
        call().map_err(|error| {
            let why = words(&error);
            match &error {
                NvmlError::NotSupported => {
                    self.refused.0.insert((slice, what));
                }
                NvmlError::GpuLost => self.ended = Some(Ended::Lost),
                error if driver_is_gone(error) => self.ended = Some(Ended::Driver(why.clone())),
                _ => {}
            }
            unanswered(&why, matches!(error, NvmlError::NotSupported))
        })
    }

    /// The device cannot answer these any more.
    pub(super) fn ask_all_again(&mut self) {
        self.refused.clear();
    }

    pub(super) fn ended(self) -> Option<Ended> {
        self.ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_not_supported_is_final() {
        let mut refused = Refused::default();
        let mut calls = 0;
        for (error, is_asked) in [
            (NvmlError::Timeout, true),
            (NvmlError::Unknown, true),
            (NvmlError::NoPermission, true),
            (NvmlError::NotSupported, true),
            (NvmlError::Timeout, false),
        ] {
            let before = calls;
            let answer: Result<(), _> = Asked::new(&mut refused).ask("power", || {
                calls += 1;
                Err(error)
            });
            assert!(answer.is_err());
            assert_eq!(calls > before, is_asked);
        }
        // Another question is not touched by that, and after a change of the device it is asked again.
        let mut asked = Asked::new(&mut refused);
        assert_eq!(asked.ask("temperature", || Ok(40)), Ok(40));
        assert_eq!(asked.ask_of(Some(1), "power", || Ok(7)), Ok(7));
        asked.ask_all_again();
        assert_eq!(asked.ask("power", || Ok(70)), Ok(70));
    }

    #[test]
    fn after_a_lost_gpu_or_a_gone_driver_nothing_is_asked() {
        let table = [
            (NvmlError::GpuLost, Ended::Lost, LOST),
            (
                NvmlError::DriverNotLoaded,
                Ended::Driver("NVML: NVIDIA driver is not loaded".to_owned()),
                "NVML: NVIDIA driver is not loaded",
            ),
        ];
        for (error, ended, why) in table {
            let mut refused = Refused::default();
            let mut asked = Asked::new(&mut refused);
            let first: Result<(), _> = asked.ask("memory", || Err(error));
            let second = asked.ask("power", || -> Result<(), _> { panic!("it is not asked") });
            let expected = Err(Unanswered {
                why: why.to_owned(),
                is_unsupported: false,
            });
            assert_eq!((&first, &second), (&expected, &expected));
            assert_eq!(asked.ended(), Some(ended));
        }
    }
}
