//! A state of the world.

use super::NONE;
use super::step::Whose;

/// Deliveries that are under way at once, at most. More would need more losses than any bounds here.
pub(super) const UNDER_WAY_MAX: usize = 6;

/// A state of the world: numbers of its parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct State {
    pub(super) discord: u32,
    pub(super) worker: u32,
    /// A worker that another has replaced, and that does not know it yet. It reads nothing more.
    pub(super) older: u32,
    pub(super) hub: u32,
    pub(super) copy: u32,
    /// Sorted.
    pub(super) net: [u32; UNDER_WAY_MAX],
    pub(super) left: Left,
    /// Rises with every claim.
    pub(super) tick: u8,
}

/// What may still go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Left {
    pub(super) crashes: u8,
    pub(super) expiries: u8,
    pub(super) stalls: u8,
    pub(super) losses: u8,
    pub(super) wipes: u8,
    pub(super) restores: u8,
}

impl State {
    pub(super) fn under_way(&self) -> impl Iterator<Item = u32> + use<> {
        self.net.into_iter().filter(|number| *number != NONE)
    }

    pub(super) fn is_under_way(&self, delivery: u32) -> bool {
        self.net.contains(&delivery)
    }

    pub(super) fn with(mut self, delivery: u32) -> Self {
        if !self.is_under_way(delivery)
            && let Some(free) = self.net.iter_mut().find(|number| **number == NONE)
        {
            *free = delivery;
            self.net.sort_unstable();
        }
        self
    }

    pub(super) fn without(mut self, delivery: u32) -> Self {
        for number in &mut self.net {
            if *number == delivery {
                *number = NONE;
            }
        }
        self.net.sort_unstable();
        self
    }

    pub(super) fn worker_of(&self, whose: Whose) -> u32 {
        match whose {
            Whose::Newer => self.worker,
            Whose::Older => self.older,
        }
    }

    pub(super) fn set_worker(&mut self, whose: Whose, number: u32) {
        match whose {
            Whose::Newer => self.worker = number,
            Whose::Older => self.older = number,
        }
    }
}

impl Left {
    pub(super) fn with_loss(self) -> Option<Self> {
        let losses = self.losses.checked_sub(1)?;
        Some(Self { losses, ..self })
    }
}
