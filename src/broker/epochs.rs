//! The epochs of a log: the present one, and those that it had before.

use crate::position::Epoch;

/// A log whose offsets may have gone back goes on in a new epoch. Up to some offset it is still the same log, so positions
/// of that part stay good.
#[derive(Debug)]
pub struct Epochs {
    current: Epoch,
    /// Oldest first, each with the offset up to which the next epoch is the same.
    earlier: Vec<(Epoch, u64)>,
    /// The newest epoch that is not remembered any more.
    forgotten: Option<Epoch>,
}

impl Epochs {
    pub fn new(first: Epoch) -> Self {
        Self { current: first, earlier: Vec::new(), forgotten: None }
    }

    pub fn current(&self) -> Epoch {
        self.current
    }

    /// Begins an epoch that is the same as the present one up to the offset `common`.
    pub fn begin(&mut self, epoch: Epoch, common: u64) {
        if self.earlier.len() == REMEMBERED_EPOCHS {
            self.forgotten = Some(self.earlier.remove(0).0);
        }
        self.earlier.push((std::mem::replace(&mut self.current, epoch), common));
    }

    /// How many epochs ago this one was the present one.
    pub fn age(&self, epoch: Epoch) -> Option<usize> {
        if epoch == self.current {
            return Some(0);
        }
        let index = self.earlier.iter().rposition(|(earlier, _)| *earlier == epoch)?;
        Some(self.earlier.len() - index)
    }

    /// The epoch of this age. For an older one it is one that is forgotten: a reader that comes back with it is not
    /// recovered, and one that stays gets a gap next, which puts it right.
    pub fn of_age(&self, age: usize) -> Epoch {
        let index = self.earlier.len().checked_sub(age);
        let earlier = |index: usize| self.earlier.get(index).map(|(epoch, _)| *epoch);
        index.map_or(self.forgotten, earlier).unwrap_or(self.current)
    }

    /// The offset up to which the log is the same as in the epoch of this age. 0 when that is forgotten.
    pub fn common_since(&self, age: usize) -> u64 {
        let Some(first) = self.earlier.len().checked_sub(age) else { return 0 };
        self.earlier[first..].iter().map(|(_, common)| *common).min().unwrap_or(u64::MAX)
    }
}

/// Epochs of one log that are remembered beside the present one. A position of an older one is not recovered.
const REMEMBERED_EPOCHS: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_common_to_several_epochs_is_what_survived_every_change() {
        let mut epochs = Epochs::new(Epoch::new(1));
        epochs.begin(Epoch::new(2), 40);
        epochs.begin(Epoch::new(3), 55);
        let ages = [1, 2, 3, 4].map(|epoch| epochs.age(Epoch::new(epoch)));
        assert_eq!(ages, [Some(2), Some(1), Some(0), None]);
        assert_eq!([0, 1, 2, 3].map(|age| epochs.common_since(age)), [u64::MAX, 55, 40, 0]);
        assert_eq!([0, 1, 2].map(|age| epochs.of_age(age)), [3, 2, 1].map(Epoch::new));
    }

    #[test]
    fn the_oldest_epochs_are_forgotten() {
        let mut epochs = Epochs::new(Epoch::new(0));
        for epoch in 1..=REMEMBERED_EPOCHS as u64 + 1 {
            epochs.begin(Epoch::new(epoch), 10);
        }
        assert_eq!((epochs.age(Epoch::new(0)), epochs.age(Epoch::new(1))), (None, Some(REMEMBERED_EPOCHS)));
        assert_eq!(epochs.common_since(REMEMBERED_EPOCHS), 10);
        assert_eq!(epochs.common_since(REMEMBERED_EPOCHS + 1), 0);
        assert_eq!(epochs.of_age(REMEMBERED_EPOCHS), Epoch::new(1));
        for older in 1..4 {
            let told = epochs.of_age(REMEMBERED_EPOCHS + older);
            assert_eq!(epochs.age(told), None, "a reader that comes back with it is not recovered");
        }
    }
}
