//! Tests of refresh families: fixed derivations, each refusal, and random walks with lost answers and a thief.

use super::*;
use crate::login::End;
use proptest::prelude::*;
use std::collections::HashMap;

const LIFETIMES: Lifetimes = Lifetimes {
    token: SignedDuration::from_secs(300),
    short_token: SignedDuration::from_secs(10),
    family: SignedDuration::from_secs(1000),
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn key() -> KeyId {
    KeyId::from_random([5; 16])
}

fn entropy() -> LoginEntropy {
    let bits = |byte| Zeroizing::new([byte; 32]);
    LoginEntropy { access: bits(3), refresh: bits(2), seed: FamilySeed::from_bytes([1; 32]) }
}

fn begun(use_refresh_token: bool) -> (Login, Issued) {
    let new = NewLogin {
        id: LoginId::from_random([0xff; 16]),
        account: AccountId::from_random([4; 16]),
        key: key(),
        address: "192.0.2.1".parse().unwrap(),
        now: at(0),
    };
    begin(new, use_refresh_token, LIFETIMES, entropy())
}

fn family(login: &mut Login) -> &mut Family {
    match &mut login.tokens {
        Tokens::Family(family) => family,
        Tokens::Access(_) => panic!("no family"),
    }
}

/// Does what the database does with an answer that is issued.
fn write(login: &mut Login, step: &Refresh) -> Option<Issued> {
    let Refresh::Issue(next) = step else {
        return None;
    };
    let family = family(login);
    assert_eq!(family.current.refresh, next.expected);
    family.current = next.generations.current.clone();
    family.previous = Some(next.generations.previous.clone());
    Some(next.issued.clone())
}

#[test]
fn an_account_without_refresh_tokens_gets_one_access_token() {
    let (login, issued) = begun(false);
    assert_eq!((issued.refresh, issued.expires_in), (None, LIFETIMES.token));
    assert_eq!(login.access_token(&issued.access.hash()).unwrap().expires, at(300));
    assert_eq!(login.expires(), at(300));
    let token = RefreshToken::from_bits(login.id, &entropy().refresh);
    let step = refresh(&login, &token, key(), LIFETIMES, at(1));
    assert_eq!(step, Refresh::Refused(RefreshRefusal::NoFamily));
}

/// Computed independently of this code. Servers of two versions must derive the same tokens.
#[test]
fn the_next_tokens_are_fixed() {
    let (login, issued) = begun(true);
    assert_eq!(issued.expires_in, LIFETIMES.short_token);
    let step = refresh(&login, &issued.refresh.unwrap(), key(), LIFETIMES, at(1));
    let Refresh::Issue(next) = step else { panic!("{step:?}") };
    let issued = next.issued;
    assert_eq!(issued.access.expose(), "opsa_at_YsnP9GVUrJqWs5UKluqQJOACieYoZ9Y6eqThourS1Wt1E3z0q");
    let expected = "opsa_rt_7n42DGM5PW9UTFKxP3NWYhr5nFotk3ZMrpQ6zDpOi32Yl0DQs8EDryrCsOZNoK3dD0gIOvm";
    assert_eq!(issued.refresh.unwrap().expose(), expected);
}

#[test]
fn a_lost_answer_is_given_again() {
    let (mut login, first) = begun(true);
    let token = first.refresh.unwrap();
    let step = refresh(&login, &token, key(), LIFETIMES, at(8));
    let lost = write(&mut login, &step).unwrap();
    // The access token of the lost answer has expired. The repeated answer gives it a new lifetime.
    let step = refresh(&login, &token, key(), LIFETIMES, at(60));
    let again = write(&mut login, &step).unwrap();
    assert_eq!(again, lost);
    assert_eq!(login.access_token(&again.access.hash()).unwrap().expires, at(70));
    assert_eq!(login.access_token(&first.access.hash()).unwrap().expires, at(10));
}

#[test]
fn a_refresh_token_is_refused_with_its_reason() {
    let (login, issued) = begun(true);
    let token = issued.refresh.unwrap();
    let refused = |login: &Login, key, now| match refresh(login, &token, key, LIFETIMES, now) {
        Refresh::Refused(reason) => reason,
        step => panic!("{step:?}"),
    };
    assert_eq!(refused(&login, KeyId::from_random([6; 16]), at(1)), RefreshRefusal::OtherKey);
    assert_eq!(refused(&login, key(), at(1000)), RefreshRefusal::Expired);
    for reason in EndReason::ALL {
        let ended = Login { end: Some(End { at: at(1), reason }), ..login.clone() };
        assert_eq!(refused(&ended, key(), at(2)), RefreshRefusal::Ended(reason));
    }
}

#[test]
fn no_token_outlives_the_absolute_end() {
    let (mut login, issued) = begun(true);
    let step = refresh(&login, &issued.refresh.unwrap(), key(), LIFETIMES, at(997));
    let issued = write(&mut login, &step).unwrap();
    assert_eq!(issued.expires_in, SignedDuration::from_secs(3));
    assert_eq!(login.access_token(&issued.access.hash()).unwrap().expires, login.expires());
}

#[test]
fn a_token_that_was_never_issued_ends_the_login() {
    let (login, _) = begun(true);
    let forged = RefreshToken::from_bits(login.id, &Zeroizing::new([9; 32]));
    assert_eq!(refresh(&login, &forged, key(), LIFETIMES, at(1)), Refresh::Reused);
}

/// One step of a walk.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// The client refreshes with its newest token and gets the answer.
    Refresh,
    /// The client refreshes with its newest token, and the answer is lost.
    Lose,
    /// A thief takes a copy of the newest token of the client.
    Steal,
    /// The thief presents the token that it took at this step, if there is one.
    Replay(usize),
    /// Time passes.
    Wait(i64),
}

fn any_act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => Just(Act::Refresh),
        2 => Just(Act::Lose),
        1 => Just(Act::Steal),
        1 => (0..8_usize).prop_map(Act::Replay),
        2 => (1..40_i64).prop_map(Act::Wait),
    ]
}

/// A model that knows the generation of each issued token. It does not derive or compare hashes of generations.
struct World {
    login: Login,
    now: Timestamp,
    client: RefreshToken,
    stolen: Vec<RefreshToken>,
    /// The generation of each refresh token, by its text.
    generations: HashMap<String, usize>,
    newest: usize,
    /// The answer to each generation, once it was given.
    answers: HashMap<usize, (String, String)>,
}

impl World {
    fn new() -> Self {
        let (login, issued) = begun(true);
        let client = issued.refresh.unwrap();
        let generations = HashMap::from([(client.expose().to_owned(), 0)]);
        Self { login, now: at(0), client, stolen: Vec::new(), generations, newest: 0, answers: HashMap::new() }
    }

    /// Presents a token, and checks the answer against the model.
    fn present(&mut self, token: &RefreshToken) -> Option<RefreshToken> {
        let generation = self.generations[token.expose()];
        let step = refresh(&self.login, token, key(), LIFETIMES, self.now);
        if self.login.end.is_some() {
            assert_eq!(step, Refresh::Refused(RefreshRefusal::Ended(EndReason::Reused)));
            return None;
        }
        if self.now >= at(1000) {
            assert_eq!(step, Refresh::Refused(RefreshRefusal::Expired));
            return None;
        }
        if generation + 1 < self.newest {
            assert_eq!(step, Refresh::Reused, "an older token must end the login");
            self.login.end = Some(End { at: self.now, reason: EndReason::Reused });
            return None;
        }
        let issued = write(&mut self.login, &step).expect("the newest two tokens work");
        let next = issued.refresh.clone().unwrap();
        let answer = (issued.access.expose().to_owned(), next.expose().to_owned());
        let first = self.answers.entry(generation).or_insert_with(|| answer.clone()).clone();
        assert_eq!(answer, first, "a repeated answer is the same");
        self.newest = generation + 1;
        self.generations.insert(answer.1, self.newest);
        let live = self.login.access_token(&issued.access.hash()).expect("the issued token is stored");
        assert_eq!(live.expires.duration_since(self.now), issued.expires_in);
        Some(next)
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Refresh => {
                if let Some(next) = self.present(&self.client.clone()) {
                    self.client = next;
                }
            }
            Act::Lose => drop(self.present(&self.client.clone())),
            Act::Steal => self.stolen.push(self.client.clone()),
            Act::Replay(which) => {
                if let Some(token) = self.stolen.get(which).cloned()
                    && let Some(next) = self.present(&token)
                {
                    self.stolen.push(next);
                }
            }
            Act::Wait(seconds) => self.now += SignedDuration::from_secs(seconds),
        }
    }
}

proptest! {
    /// Two parties that refresh with copies of one token are found out: both can only continue on the same chain, and
    /// the one that falls behind by two ends it.
    #[test]
    fn random_walks_keep_the_family_honest(acts in prop::collection::vec(any_act(), 1..80)) {
        let mut world = World::new();
        for act in acts {
            world.act(act);
        }
    }

    #[test]
    fn a_client_that_loses_answers_is_never_locked_out(lost in prop::collection::vec(any::<bool>(), 1..60)) {
        let mut world = World::new();
        for lost in lost {
            world.act(if lost { Act::Lose } else { Act::Refresh });
        }
        prop_assert_eq!(world.login.end, None);
    }
}
