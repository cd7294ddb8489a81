//! Records at stable places, which are used again.

use super::ids::Index;

/// A vector of records with holes; a hole is filled before the vector grows. Every place counts how often it was emptied,
/// and is left alone for good once that count has reached `last_generation`.
#[derive(Debug)]
pub(crate) struct Slab<R> {
    places: Vec<Place<R>>,
    /// The most recently emptied place, the start of the chain of holes.
    hole: Option<Index>,
    len: usize,
    limit: usize,
    last_generation: u32,
}

#[derive(Debug)]
struct Place<R> {
    generation: u32,
    content: Content<R>,
}

#[derive(Debug)]
enum Content<R> {
    Record(R),
    Hole { next: Option<Index> },
}

impl<R> Slab<R> {
    pub(crate) fn new(limit: usize, last_generation: u32) -> Self {
        Self {
            places: Vec::new(),
            hole: None,
            len: 0,
            limit,
            last_generation,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether `insert` would give the record back.
    pub(crate) fn is_full(&self) -> bool {
        self.hole.is_none() && self.places.len() >= self.limit
    }

    /// Keeps the record, and tells where and in which generation of that place; `None`, dropping it, if the slab is full.
    // Inlined so that a request is built in its place rather than copied from call to call: a sixth of a hand-over.
    #[inline(always)]
    pub(crate) fn insert(&mut self, record: R) -> Option<(Index, u32)> {
        let inserted = match self.hole {
            Some(index) => {
                let place = self.places.get_mut(index.position())?;
                if let Content::Hole { next } = place.content {
                    self.hole = next;
                }
                place.content = Content::Record(record);
                (index, place.generation)
            }
            None => {
                if self.is_full() {
                    return None;
                }
                let index = Index::of(self.places.len())?;
                self.places.push(Place {
                    generation: 0,
                    content: Content::Record(record),
                });
                (index, 0)
            }
        };
        self.len += 1;
        Some(inserted)
    }

    pub(crate) fn get(&self, index: Index) -> Option<&R> {
        match self.places.get(index.position()) {
            Some(Place {
                content: Content::Record(record),
                ..
            }) => Some(record),
            _ => None,
        }
    }

    pub(crate) fn get_mut(&mut self, index: Index) -> Option<&mut R> {
        match self.places.get_mut(index.position()) {
            Some(Place {
                content: Content::Record(record),
                ..
            }) => Some(record),
            _ => None,
        }
    }

    /// Which generation of records the place is in.
    pub(crate) fn generation(&self, index: Index) -> Option<u32> {
        self.places.get(index.position()).map(|place| place.generation)
    }

    // Inlined for the same reason as `insert`.
    #[inline(always)]
    pub(crate) fn remove(&mut self, index: Index) -> Option<R> {
        let place = self.places.get_mut(index.position())?;
        if let Content::Hole { .. } = place.content {
            return None;
        }
        let retired = place.generation >= self.last_generation;
        let next = if retired { None } else { self.hole };
        let content = std::mem::replace(&mut place.content, Content::Hole { next });
        if !retired {
            place.generation += 1;
            self.hole = Some(index);
        }
        self.len -= 1;
        match content {
            Content::Record(record) => Some(record),
            Content::Hole { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_in_the_next_generation() {
        let mut slab = Slab::new(10, 100);
        let (first, generation) = slab.insert('a').unwrap();
        assert_eq!(slab.remove(first), Some('a'));
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.insert('b'), Some((first, generation + 1)));
        assert_eq!(slab.get(first), Some(&'b'));
        assert_eq!(slab.len(), 1);
    }

    #[test]
    fn a_place_whose_generations_are_used_up_is_left_alone() {
        let mut slab = Slab::new(10, 1);
        let (first, _) = slab.insert(0).unwrap();
        slab.remove(first);
        assert_eq!(slab.insert(1), Some((first, 1)));
        slab.remove(first);
        let (second, generation) = slab.insert(2).unwrap();
        assert_ne!(first, second);
        assert_eq!((generation, slab.get(first)), (0, None));
    }

    #[test]
    fn a_full_slab_says_so() {
        let mut slab = Slab::new(1, 5);
        let (only, _) = slab.insert('a').unwrap();
        assert!(slab.is_full());
        assert_eq!(slab.insert('b'), None);
        slab.remove(only);
        assert!(!slab.is_full());
    }
}
