//! SyncNormHook: before each validation, the mean of the norm layers' states over all ranks. What it sees, when it fires and
//! what it does is on its page, below.

use super::{Ahead, Difference, Hook, Kind, Page};
use crate::domain::{Facts, Standing};

pub(super) const KIND: Kind = Kind {
    type_name: "SyncNormHook",
    summary: "averages the states of the norm layers over all ranks",
    points: &["before_val_epoch"],
    effect: "the trainer's own collective before each validation",
    args: &[],
    example: &[],
    config_only: false,
    page: Page {
        original: "MMDetection 3.3.0",
        sees: "How many ranks there are, and whether they share a process group. It is decided before the training starts, so \
             that a daemon that dies later changes nothing.",
        fires: "Before each validation.",
        does: "Each rank takes the mean over all ranks of the whole state of its norm layers, in one collective of the \
             trainer's own:\n\
             - BatchNorm, SyncBatchNorm and InstanceNorm: weight, bias, running mean and variance, the number of batches; \
             what their child modules have too. GroupNorm and LayerNorm are left alone.\n\
             - The mean is taken in float32 and written back in each tensor's own type. So float64 weights keep float32's \
             digits, and a count of batches above 16,777,216 may lose its last ones, as in the original.\n\
             - The weights are learnable, and the training goes on with their mean, as in the original.\n\
             One rank alone has nothing to average, and nothing happens. In YOLOX configs this comes before EMAHook (49): say \
             `priority=48` of HookbusHook. A plain loop says `bus.bind(model=...)` and `attach(val_on_every_rank=True)`. Where \
             the ranks' norm layers are not the same (sharded models, say) the result is \"unsupported\" on all of them.",
        differences: &[Difference {
            what: "several ranks without a process group",
            ours: "refused, in one line; the training goes on",
            why: "each rank of the original takes itself for the only one, and silently nothing is averaged",
            recorded: None,
        }],
        more: None,
    },
    build: |_| Ok(Box::new(SyncNormHook)),
};

/// See the module.
#[derive(Debug)]
pub struct SyncNormHook;

impl Hook for SyncNormHook {
    fn ahead(&mut self, facts: &Facts, _: &str) -> Result<Ahead, String> {
        if facts.world_size <= 1 {
            return Ok(Ahead::default());
        }
        if !facts.process_group {
            return Err(format!(
                "there are {} ranks and no process group to average norm states with: start torch.distributed before the \
                 training, or leave the hook out",
                facts.world_size
            ));
        }
        Ok(Ahead {
            standing: Some(Standing::SyncNorm),
            warnings: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hooks::tests::{decided, refused};

    const TYPE: &str = "SyncNormHook";

    fn facts(world_size: u32, process_group: bool) -> Facts {
        Facts {
            world_size,
            process_group,
            ..Facts::default()
        }
    }

    #[test]
    fn ranks_that_share_a_process_group_average() {
        for (world_size, process_group, standing) in [
            (0, false, None),
            (1, false, None),
            (1, true, None),
            (2, true, Some(Standing::SyncNorm)),
            (512, true, Some(Standing::SyncNorm)),
        ] {
            let ahead = decided(TYPE, &[], &facts(world_size, process_group));
            assert_eq!(ahead.standing, standing, "{world_size} {process_group}");
            assert!(ahead.warnings.is_empty());
        }
    }

    #[test]
    fn ranks_without_one_are_refused() {
        let why = refused(TYPE, &[], &facts(2, false));
        assert!(
            why.starts_with("there are 2 ranks and no process group"),
            "{why}"
        );
    }
}
