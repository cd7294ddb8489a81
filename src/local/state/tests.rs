//! A table without room.

use super::*;

const WHO: fn() -> Who = Who::default;

#[test]
fn a_hold_of_the_fast_path_for_which_the_table_has_no_room_goes_on() {
    let mut state = State::new(Table::with_room(0, 2), None);
    let (one, other) = (state.new_owner(), state.new_owner());
    let [held, wanted, full_one, full_other] = [("held", one), ("held", other), ("full", one), ("full", other)]
        .map(|(id, owner)| state.open(id, owner, WHO()).unwrap().handle);
    for handle in [full_one, full_other] {
        let outcome = state.request(handle, Mode::Exclusive, Attempt::Wait, 1, None).unwrap();
        assert_ne!(outcome, Outcome::Busy);
    }
    let lock = state.handles.get(held).unwrap().lock;
    assert!(Word::Free.exchange(state.words.word(lock), Word::Fast(held)));

    for attempt in [Attempt::Wait, Attempt::Try] {
        assert_eq!(
            state.request(wanted, Mode::Exclusive, attempt, 2, None),
            Ok(Outcome::Busy)
        );
    }
    assert_eq!(state.steal(wanted, 2, None, &mut Vec::new()), Ok(Outcome::Busy));
    assert_eq!(state.ticket_of(held), None);
    assert!(state.holds(held));
    assert_eq!(Word::read(state.words.word(lock)), Word::Fast(held));

    state.release_fast(held, &mut Vec::new()).unwrap();
    state.owner_gone(one, &mut Vec::new());
    assert!(matches!(
        state.request(wanted, Mode::Exclusive, Attempt::Try, 3, None),
        Ok(Outcome::Granted(..))
    ));
}
