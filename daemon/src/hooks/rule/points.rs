//! Where a rule may stand, and what its `every` counts there.

use crate::domain::Base;
use crate::domain::near::nearest;

/// MMEngine's points, and the one that hookbus adds.
const POINTS: [&str; 23] = [
    "before_run",
    "after_load_checkpoint",
    "before_train",
    "before_train_epoch",
    "before_train_iter",
    "after_train_iter",
    "after_train_epoch",
    "before_val",
    "before_val_epoch",
    "before_val_iter",
    "after_val_iter",
    "after_val_epoch",
    "after_val",
    "before_save_checkpoint",
    "after_save_checkpoint",
    "after_train",
    "before_test",
    "before_test_epoch",
    "before_test_iter",
    "after_test_iter",
    "after_test_epoch",
    "after_test",
    "after_run",
];

/// What is counted at a point, as MMEngine does; [`Base::Always`]: it comes seldom, and each time counts. `own`: it is the
/// trainer's. Errors: it is no point.
pub(super) fn base(point: &str, own: bool) -> Result<Base, String> {
    if !POINTS.contains(&point) {
        if point.is_empty() {
            return Err("at is empty; it must be a point, as after_train_iter".to_owned());
        }
        if own {
            return Ok(Base::Always);
        }
        let near = nearest(point, POINTS.into_iter());
        let near = near.map_or_else(String::new, |near| format!("; do you mean {near:?}?"));
        return Err(format!(
            "at is {point:?}, which is no point{near} (for one of the trainer's own say own_point = true too)"
        ));
    }
    Ok(if point.ends_with("_train_iter") {
        Base::Iter
    } else if point.ends_with("_iter") {
        Base::InnerIter
    } else if point.ends_with("_epoch") {
        Base::Epoch
    } else {
        Base::Always
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_point_counts_as_mmengine_counts_there() {
        let recorded = include_str!("../../../../tests/oracle/hook_points.json");
        let recorded: serde_json::Value = serde_json::from_str(recorded).unwrap();
        let stages = recorded["stages_in_order"].as_array().unwrap();
        assert_eq!(stages.len(), 22);
        for stage in stages {
            assert!(POINTS.contains(&stage.as_str().unwrap()), "{stage}");
        }
        for (point, counted) in [
            ("after_train_iter", Base::Iter),
            ("before_val_iter", Base::InnerIter),
            ("after_test_iter", Base::InnerIter),
            ("after_val_epoch", Base::Epoch),
            ("before_train_epoch", Base::Epoch),
            ("before_train", Base::Always),
            ("after_save_checkpoint", Base::Always),
        ] {
            assert_eq!(base(point, false), Ok(counted), "{point}");
        }
        let own = "(for one of the trainer's own say own_point = true too)";
        assert_eq!(
            base("after_train_itr", false).unwrap_err(),
            format!(
                "at is \"after_train_itr\", which is no point; do you mean \"after_train_iter\"? {own}"
            )
        );
        assert_eq!(
            base("my_step", false).unwrap_err(),
            format!("at is \"my_step\", which is no point {own}")
        );
        assert_eq!(base("after_eval", true), Ok(Base::Always));
        assert!(base("", true).is_err());
    }
}
