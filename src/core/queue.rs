//! Doubly linked lists whose links live in the records themselves: joining, leaving from anywhere and finding the first
//! cost the same however long the list is, and nothing is allocated.

use super::ids::Index;

/// A record's neighbours in one list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Links {
    previous: Option<Index>,
    next: Option<Index>,
}

impl Links {
    pub(crate) fn next(self) -> Option<Index> {
        self.next
    }
}

/// Where the links of the records of one list are.
pub(crate) trait Linked {
    fn links_mut(&mut self, index: Index) -> Option<&mut Links>;
}

/// First and last of a list. A record may be in one list per pair of links; that it is in this one is for the caller
/// to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Queue {
    first: Option<Index>,
    last: Option<Index>,
}

impl Queue {
    pub(crate) fn first(self) -> Option<Index> {
        self.first
    }

    pub(crate) fn is_empty(self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn push_back(&mut self, records: &mut impl Linked, index: Index) {
        if let Some(links) = records.links_mut(index) {
            *links = Links {
                previous: self.last,
                next: None,
            };
        }
        match self.last {
            Some(last) => {
                if let Some(links) = records.links_mut(last) {
                    links.next = Some(index);
                }
            }
            None => self.first = Some(index),
        }
        self.last = Some(index);
    }

    pub(crate) fn remove(&mut self, records: &mut impl Linked, index: Index) {
        let Some(links) = records.links_mut(index).map(std::mem::take) else {
            return;
        };
        match links.previous {
            Some(previous) => {
                if let Some(before) = records.links_mut(previous) {
                    before.next = links.next;
                }
            }
            None => self.first = links.next,
        }
        match links.next {
            Some(next) => {
                if let Some(after) = records.links_mut(next) {
                    after.previous = links.previous;
                }
            }
            None => self.last = links.previous,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Records(Vec<Links>);

    impl Linked for Records {
        fn links_mut(&mut self, index: Index) -> Option<&mut Links> {
            self.0.get_mut(index.position())
        }
    }

    fn at(position: usize) -> Index {
        Index::of(position).unwrap()
    }

    fn positions(queue: Queue, records: &Records) -> Vec<usize> {
        std::iter::successors(queue.first(), |index| records.0[index.position()].next())
            .map(Index::position)
            .collect()
    }

    #[test]
    fn records_leave_from_the_front_the_middle_and_the_end() {
        let mut records = Records(vec![Links::default(); 5]);
        let mut queue = Queue::default();
        for position in 0..5 {
            queue.push_back(&mut records, at(position));
        }
        queue.remove(&mut records, at(2));
        assert_eq!(positions(queue, &records), [0, 1, 3, 4]);
        queue.remove(&mut records, at(0));
        queue.remove(&mut records, at(4));
        assert_eq!(positions(queue, &records), [1, 3]);
        queue.remove(&mut records, at(1));
        queue.remove(&mut records, at(3));
        assert!(queue.is_empty());
        assert_eq!(queue, Queue::default());
        queue.push_back(&mut records, at(2));
        assert_eq!(queue.first(), Some(at(2)));
    }
}
