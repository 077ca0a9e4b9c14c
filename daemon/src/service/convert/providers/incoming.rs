//! The frames of a provider. A mistake is a status that says which frame and which field.

use hookbus_proto::v1::{self as wire, provider_frame::Frame};
use tonic::Status;

use super::answers::answer;
use super::offer::offer;
use crate::providers::{Answer, Offer};
use crate::service::convert::Limits;
use crate::service::convert::incoming::{name, text};

/// Bytes of a module's name.
const MODULE_BYTES: usize = 256;

/// A connection's first frame.
#[derive(Debug, PartialEq)]
pub(in crate::service) struct Introduction {
    pub(in crate::service) protocol: u32,
    pub(in crate::service) module: String,
    pub(in crate::service) client: String,
    pub(in crate::service) ticket: String,
}

/// Every frame after it.
#[derive(Debug)]
pub(in crate::service) enum FromProvider {
    Offer(Offer),
    /// (the run's number, what its hook says)
    Answers(Vec<(u64, Answer)>),
}

pub(super) fn invalid(text: &str) -> Status {
    Status::invalid_argument(text)
}

/// The first frame.
pub(in crate::service) fn introduction(
    frame: wire::ProviderFrame,
    limits: &Limits,
) -> Result<Introduction, Status> {
    let Some(Frame::Introduction(said)) = frame.frame else {
        return Err(invalid("frame 1: a provider's first frame is Introduction"));
    };
    let checked = || {
        let module = name("Introduction.module", said.module, limits)?;
        if module.len() > MODULE_BYTES || module.chars().any(|letter| letter.is_control()) {
            return Err(invalid(&format!(
                "Introduction.module is {module:?}: a name has at most {MODULE_BYTES} bytes and no control characters"
            )));
        }
        Ok(Introduction {
            protocol: said.protocol,
            module,
            client: text("Introduction.client", said.client, limits)?,
            ticket: text("Introduction.ticket", said.ticket, limits)?,
        })
    };
    checked().map_err(|status| of_frame(1, &status))
}

/// A frame after the first; `number`: which, from 1.
pub(in crate::service) fn provider_frame(
    number: u64,
    frame: wire::ProviderFrame,
    limits: &Limits,
) -> Result<FromProvider, Status> {
    let checked = match frame.frame {
        None => Err(invalid(
            "it is empty, or of a kind that this daemon does not know",
        )),
        Some(Frame::Introduction(_)) => Err(invalid("a second Introduction in one connection")),
        Some(Frame::Offer(said)) => offer(said, limits).map(FromProvider::Offer),
        Some(Frame::Answers(said)) => {
            let answers = said.answers.into_iter().enumerate();
            let answers = answers.map(|(at, said)| {
                let run = said.run;
                let what = format!("Answers.answers[{at}]");
                Ok((run, answer(&what, said, limits)))
            });
            let answers: Result<Vec<_>, Status> = answers.collect();
            answers.map(FromProvider::Answers)
        }
    };
    checked.map_err(|status| of_frame(number, &status))
}

/// The same status, with the frame named.
pub(super) fn of_frame(number: u64, status: &Status) -> Status {
    Status::new(
        status.code(),
        format!("frame {number}: {}", status.message()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::convert::incoming::LIMITS;

    fn frame(frame: Frame) -> wire::ProviderFrame {
        wire::ProviderFrame { frame: Some(frame) }
    }

    fn introduced(module: &str) -> Result<Introduction, Status> {
        let said = wire::Introduction {
            protocol: 1,
            module: module.to_owned(),
            ..Default::default()
        };
        introduction(frame(Frame::Introduction(said)), &LIMITS)
    }

    #[test]
    fn the_first_frame_says_which_module() {
        assert_eq!(introduced("my_hooks").expect("valid").module, "my_hooks");
        for (module, text) in [
            ("", "frame 1: Introduction.module is empty"),
            ("a\nb", "no control characters"),
            (&"x".repeat(65), "limits.string_bytes is 64"),
        ] {
            let status = introduced(module).expect_err("it is wrong");
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().contains(text), "{}", status.message());
        }
        for other in [None, Some(Frame::Offer(wire::Offer::default()))] {
            let status = introduction(wire::ProviderFrame { frame: other }, &LIMITS);
            let status = status.expect_err("it is another");
            assert!(status.message().contains("first frame is Introduction"));
        }
    }

    #[test]
    fn later_frames_are_named_by_number() {
        for (said, text) in [
            (
                wire::ProviderFrame { frame: None },
                "frame 7: it is empty, or of a kind",
            ),
            (
                frame(Frame::Introduction(wire::Introduction::default())),
                "frame 7: a second Introduction",
            ),
        ] {
            let status = provider_frame(7, said, &LIMITS).expect_err("it is wrong");
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(status.message().contains(text), "{}", status.message());
        }
    }
}
