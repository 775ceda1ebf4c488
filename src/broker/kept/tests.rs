use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::change::Op;
use crate::publication::{Content, prefix};

fn made(offset: u64, key: Option<&str>, second: u64, removes: bool) -> Publication {
    let op = if removes { Op::Delete } else { Op::Set };
    let content = Content { op, ..Content::new(b"1", key) };
    Publication::new(&prefix("a"), offset, &content, Moment::default() + Duration::from_secs(second))
}

#[derive(Clone, Debug)]
enum Step {
    Push(Option<u8>),
    Remove(u8),
    Pop,
    PopRemoval,
    Wait,
    GiveBack,
    CutOff(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => prop::option::weighted(0.9, 0..40_u8).prop_map(Step::Push),
        4 => (0..40_u8).prop_map(Step::Remove),
        2 => Just(Step::Pop),
        2 => Just(Step::PopRemoval),
        2 => Just(Step::Wait),
        1 => Just(Step::GiveBack),
        1 => (0..30_u64).prop_map(Step::CutOff),
    ]
}

/// What is kept, by offset: the key, the second, and whether it is a removal.
type Model = BTreeMap<u64, (Option<String>, u64, bool)>;

fn compare(kept: &Kept, model: &Model, bytes: usize, trimmed: u64, top: u64) -> Result<(), TestCaseError> {
    let offsets: Vec<_> = model.keys().copied().collect();
    prop_assert_eq!(kept.len(), offsets.len());
    prop_assert_eq!(kept.front().map(|entry| entry.offset), offsets.first().copied());
    let newest: Vec<_> = kept.newest().map(|entry| entry.offset).collect();
    prop_assert_eq!(newest, offsets.iter().rev().copied().collect::<Vec<_>>());
    for from in trimmed..=top {
        let after: Vec<_> = kept.after(from, trimmed).map(|entry| entry.offset).collect();
        prop_assert_eq!(after, offsets.iter().copied().filter(|offset| *offset > from).collect::<Vec<_>>());
    }
    for second in 0..6 {
        let moment = Moment::default() + Duration::from_secs(second);
        let old = model.iter().rev().find(|(_, (_, appended, _))| *appended < second);
        prop_assert_eq!(kept.last_before(moment), old.map(|(offset, _)| *offset));
    }
    prop_assert_eq!(kept.after(0, trimmed).map(Publication::size).sum::<usize>(), bytes);
    let removals: Vec<_> = kept.after(0, trimmed).filter(|entry| entry.is_removal()).collect();
    prop_assert_eq!(kept.removals(), (removals.len(), removals.iter().map(|entry| entry.size()).sum()));
    prop_assert_eq!(kept.live(), offsets.len() - removals.len());
    if let Kept::Keyed(keyed) = kept {
        for key in 0..40_u8 {
            let key = key.to_string();
            let found = keyed.get(&key).map(|entry| entry.offset);
            let expected = model.iter().find(|(_, (other, ..))| other.as_deref() == Some(&*key));
            prop_assert_eq!(found, expected.map(|(offset, _)| *offset));
        }
        prop_assert!(
            keyed.order.len() < FEW_PLACES + 2 * keyed.slots.len().max(1),
            "stale places are bounded"
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn what_is_kept_is_what_a_map_by_offset_would_keep(is_keyed: bool, steps in prop::collection::vec(step(), 1..300)) {
        let (mut kept, mut model) = (Kept::new(is_keyed), Model::new());
        let (mut top, mut trimmed, mut second, mut bytes) = (0, 0, 0, 0);
        for step in steps {
            match step {
                Step::Remove(_) if !is_keyed => {}
                Step::Push(_) | Step::Remove(_) => {
                    top += 1;
                    let (key, removes) = match step {
                        Step::Push(key) => (key, false),
                        Step::Remove(key) => (Some(key), true),
                        _ => unreachable!(),
                    };
                    let key = key.map(|key| key.to_string());
                    let publication = made(top, key.as_deref(), second, removes);
                    bytes += publication.size();
                    let older = kept.push(publication);
                    let replaced = model.iter().find(|(_, (other, ..))| is_keyed && key.is_some() && *other == key);
                    let replaced = replaced.map(|(offset, _)| *offset);
                    prop_assert_eq!(older.as_ref().map(|older| older.offset), replaced);
                    bytes -= older.map_or(0, |older| older.size());
                    model.retain(|offset, _| Some(*offset) != replaced);
                    model.insert(top, (key, second, removes));
                }
                Step::Pop => {
                    let popped = kept.pop_front();
                    let first = model.pop_first();
                    prop_assert_eq!(popped.as_ref().map(|it| it.offset), first.as_ref().map(|it| it.0));
                    if let Some(popped) = popped {
                        trimmed = popped.offset;
                        bytes -= popped.size();
                    }
                }
                Step::PopRemoval => {
                    let oldest = model.iter().find(|(_, (.., removes))| *removes).map(|(offset, _)| *offset);
                    let oldest = oldest.filter(|offset| *offset != top);
                    let popped = kept.pop_removal();
                    prop_assert_eq!(popped.as_ref().map(|it| it.offset), oldest);
                    bytes -= popped.map_or(0, |popped| popped.size());
                    model.retain(|offset, _| Some(*offset) != oldest);
                }
                Step::Wait => second = (second + 1).min(5),
                Step::GiveBack => {
                    kept.give_back();
                    if model.is_empty() {
                        prop_assert_eq!(kept.room(), 0);
                    }
                }
                Step::CutOff(back) => {
                    let offset = top.saturating_sub(back);
                    bytes -= kept.cut_off(offset);
                    model.retain(|other, _| !is_keyed && *other <= offset);
                    trimmed = if is_keyed { offset } else { trimmed.min(offset) };
                    top = offset;
                }
            }
            compare(&kept, &model, bytes, trimmed, top)?;
        }
    }
}
