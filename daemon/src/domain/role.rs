//! What somebody may do: send a training's events, look, or act.

use std::fmt;

/// One of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Attach as a rank of a run.
    Trainer,
    /// Look at runs, memory and metrics.
    Viewer,
    /// Give orders, and look.
    Operator,
}

impl Role {
    /// Every role.
    pub const ALL: [Role; 3] = [Role::Trainer, Role::Viewer, Role::Operator];

    /// As the configuration and people write it.
    pub const fn word(self) -> &'static str {
        match self {
            Role::Trainer => "trainer",
            Role::Viewer => "viewer",
            Role::Operator => "operator",
        }
    }

    /// The role of this word.
    pub fn of(word: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.word() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.word())
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Nothing is allowed.
    pub const NONE: Roles = Roles(0);
    /// Everything is allowed.
    pub const EVERY: Roles = Roles(0b111);

    /// What this role gives: an operator may look too. A trainer may not: its token lies on every training node, and other
    /// people's runs are none of its business.
    pub const fn of(role: Role) -> Roles {
        match role {
            Role::Trainer => Roles(0b001),
            Role::Viewer => Roles(0b010),
            Role::Operator => Roles(0b110),
        }
    }

    /// Both.
    #[must_use]
    pub const fn and(self, other: Roles) -> Roles {
        Roles(self.0 | other.0)
    }

    /// Whether it allows what this role is for.
    pub const fn allow(self, role: Role) -> bool {
        let own = match role {
            Role::Trainer => 0b001,
            Role::Viewer => 0b010,
            Role::Operator => 0b100,
        };
        self.0 & own != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operator_looks_too_and_a_trainer_only_trains() {
        // role, and whether it may train, look, act
        for (role, may) in [
            (Role::Trainer, [true, false, false]),
            (Role::Viewer, [false, true, false]),
            (Role::Operator, [false, true, true]),
        ] {
            assert_eq!(
                Role::ALL.map(|wanted| Roles::of(role).allow(wanted)),
                may,
                "{role}"
            );
            assert_eq!(Role::of(role.word()), Some(role));
        }
        assert_eq!(
            Roles::of(Role::Trainer).and(Roles::of(Role::Operator)),
            Roles::EVERY
        );
        assert!(!Role::ALL.iter().any(|role| Roles::NONE.allow(*role)));
    }
}
