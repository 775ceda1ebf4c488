//! The session against a naive model: what a client and an application say leads to the same as in the model.

use proptest::prelude::*;

use umbel::error_code::ErrorCode;
use umbel::session::Decision;

use crate::protocol_fuzz::targets::session_model::{
    CHANNELS, Confirms, HowAnswered, ID_CHOICES, Step, check,
};

fn decision() -> impl Strategy<Value = Decision> {
    let deny = |code| Decision::Deny { code, message: "for a reason".into() };
    prop_oneof![
        4 => Just(Decision::Allow),
        1 => Just(deny(ErrorCode::NotAllowed)),
        1 => Just(deny(ErrorCode::Timeout)),
        1 => Just(Decision::Reject { code: "conflict".into(), message: "no".into(), details: Some("[1]".into()) }),
    ]
}

fn outcome() -> impl Strategy<Value = Result<(), ErrorCode>> {
    prop_oneof![
        4 => Just(Ok(())),
        1 => Just(Err(ErrorCode::NotPublished)),
        1 => Just(Err(ErrorCode::MaybePublished)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let (channel, id) = (0..CHANNELS.len(), 0..ID_CHOICES);
    let channels = prop_oneof![
        20 => prop::collection::vec(channel.clone(), 1..4),
        1 => prop::collection::vec(channel.clone(), 20..128),
    ];
    let from = proptest::option::of(0..9_u64);
    let answer = prop_oneof![
        4 => Just(HowAnswered::Result),
        1 => Just(HowAnswered::Error),
        1 => Just(HowAnswered::Unreadable),
        1 => (0..CHANNELS.len() - 1).prop_map(|channel| HowAnswered::Run { channel }),
    ];
    let confirms = prop_oneof![Just(Confirms::AtOnce), Just(Confirms::Later), Just(Confirms::Never)];
    prop_oneof![
        4 => (channels.clone(), from, any::<bool>(), id.clone())
            .prop_map(|(channels, from, restart, id)| Step::Subscribe { channels, from, restart, id }),
        3 => (channels, id.clone()).prop_map(|(channels, id)| Step::Unsubscribe { channels, id }),
        8 => (channel.clone(), id.clone()).prop_map(|(channel, id)| Step::Publish { channel, id }),
        8 => (channel.clone(), decision()).prop_map(|(channel, decision)| Step::Decide { channel, decision }),
        2 => confirms.prop_map(Step::Broker),
        5 => (0..16_usize, outcome()).prop_map(|(which, outcome)| Step::Confirm { which, outcome }),
        1 => channel.clone().prop_map(|channel| Step::SubscribeForApplication { channel }),
        4 => id.clone().prop_map(|id| Step::OfTheApplication { id }),
        4 => (0..16_usize, answer).prop_map(|(which, answer)| Step::Answer { which, answer }),
        4 => (0..80_usize).prop_map(|back| Step::Repeat { back }),
        1 => (1..90_usize).prop_map(|count| Step::Burst { count }),
        1 => channel.prop_map(|channel| Step::UnsubscribeForApplication { channel }),
        1 => prop_oneof![
            id.prop_map(|id| Step::Heartbeat { id }),
            Just(Step::Nonsense),
            Just(Step::CountError),
            Just(Step::DecideNothing),
        ],
        4 => (0..13_u64).prop_map(Step::Wait),
    ]
}

/// A moment in the life of a client whose connections break.
fn step_of_a_life() -> impl Strategy<Value = Step> {
    let wanted = prop::collection::btree_map(0..CHANNELS.len(), proptest::option::of(0..9_u64), 0..5);
    prop_oneof![
        8 => step(),
        1 => Just(Step::Away),
        1 => (wanted, any::<bool>())
            .prop_map(|(wanted, may_ask)| Step::Resume { wanted: wanted.into_iter().collect(), may_ask }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_session_does_what_its_model_does(steps in prop::collection::vec(step(), 1..200)) {
        check(&steps);
    }

    #[test]
    fn a_client_that_comes_back_has_what_its_model_has(steps in prop::collection::vec(step_of_a_life(), 1..200)) {
        check(&steps);
    }

    #[test]
    fn a_client_may_come_back_after_a_cut_at_any_moment(
        mut steps in prop::collection::vec(step_of_a_life(), 2..60),
        place in any::<prop::sample::Index>(),
        after in 0..40_u32,
    ) {
        steps.insert(0, Step::Resume { wanted: Vec::new(), may_ask: true });
        steps.insert(1 + place.index(steps.len()), Step::Disconnect { after });
        check(&steps);
    }

    #[test]
    fn a_client_may_go_away_at_any_moment(
        mut steps in prop::collection::vec(step(), 1..60),
        place in any::<prop::sample::Index>(),
        after in 0..40_u32,
    ) {
        steps.insert(place.index(steps.len()), Step::Disconnect { after });
        check(&steps);
    }
}
