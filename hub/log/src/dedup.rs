//! A window of known ids, by which a repeated request is recognised.
//!
//! Pure and persistent: a clone costs nothing. An id stays in the window for a time *and* until
//! enough others came after it, up to a bound. At the bound the oldest id is forgotten early.

use std::hash::{Hash, Hasher};

use imbl::{HashMap, Vector};

/// How long a window remembers an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WindowBounds {
    /// For at least so long, in ms, …
    pub age_ms: u64,
    /// … and until at least so many ids came after it.
    pub entries_min: usize,
    /// The window never holds more.
    pub entries_max: usize,
}

/// What a window answers to an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The id is new. So many others had to be forgotten early for it.
    New {
        /// How many.
        forgotten_early: u64,
    },
    /// The window knows the id.
    Repeat,
}

/// The ids of a window as they were stored.
#[derive(Debug)]
pub(crate) struct StoredIds<K> {
    /// Oldest first, each with when it was admitted.
    pub(crate) ids: Vec<(u64, K)>,
    /// The number of the next one.
    pub(crate) next: u64,
}

impl<K> Default for StoredIds<K> {
    fn default() -> Self {
        Self {
            ids: Vec::new(),
            next: 0,
        }
    }
}

/// The newest ids, each with a value (what the first request was answered, for example).
#[derive(Debug, Clone)]
pub struct DedupWindow<K, V = ()> {
    bounds: WindowBounds,
    values: HashMap<K, V>,
    /// When each was admitted, oldest first.
    order: Vector<(u64, K)>,
    /// The number of the next id: numbers have no gap.
    next: u64,
}

impl<K: Clone + Eq + Hash, V: Clone> DedupWindow<K, V> {
    /// An empty window.
    pub fn new(bounds: WindowBounds) -> Self {
        Self {
            bounds,
            values: HashMap::new(),
            order: Vector::new(),
            next: 0,
        }
    }

    /// The value of an id that the window knows.
    pub fn get(&self, id: &K) -> Option<&V> {
        self.values.get(id)
    }

    /// Whether the window knows an id.
    pub fn contains(&self, id: &K) -> bool {
        self.values.contains_key(id)
    }

    /// Admits an id, unless the window knows it. A clock that was set back keeps ids longer.
    pub fn admit(&mut self, id: K, value: V, now_ms: u64) -> Admission {
        if self.contains(&id) {
            return Admission::Repeat;
        }
        let mut forgotten_early = 0;
        while let Some((at, _)) = self.order.front() {
            let is_old = now_ms.saturating_sub(*at) > self.bounds.age_ms
                && self.order.len() > self.bounds.entries_min;
            if !is_old && self.order.len() < self.bounds.entries_max {
                break;
            }
            forgotten_early += u64::from(!is_old);
            if let Some((_, oldest)) = self.order.pop_front() {
                self.values.remove(&oldest);
            }
        }
        self.order.push_back((now_ms, id.clone()));
        self.values.insert(id, value);
        self.next += 1;
        Admission::New { forgotten_early }
    }

    /// The number of the next id.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The number of the oldest id that the window knows.
    pub fn first(&self) -> u64 {
        self.next - self.order.len() as u64
    }

    /// The ids from a number on, each with its number and with when it was admitted.
    pub fn since(&self, number: u64) -> impl Iterator<Item = (u64, u64, &K)> {
        let first = self.first();
        let skipped = usize::try_from(number.saturating_sub(first)).unwrap_or(usize::MAX);
        let ids = self.order.iter().skip(skipped);
        (number.max(first)..)
            .zip(ids)
            .map(|(number, (at, id))| (number, *at, id))
    }
}

impl<K: Clone + Eq + Hash> DedupWindow<K> {
    /// A window that knows these ids.
    pub(crate) fn restored(bounds: WindowBounds, stored: StoredIds<K>) -> Self {
        let ids = stored.ids.iter().map(|(_, id)| (id.clone(), ()));
        Self {
            bounds,
            values: ids.collect(),
            order: stored.ids.into(),
            next: stored.next,
        }
    }
}

/// The values belong to the ids: equal ids were admitted by equal requests.
impl<K: Clone + Eq + Hash, V> PartialEq for DedupWindow<K, V> {
    fn eq(&self, other: &Self) -> bool {
        (self.bounds, self.next, &self.order) == (other.bounds, other.next, &other.order)
    }
}

impl<K: Clone + Eq + Hash, V> Eq for DedupWindow<K, V> {}

impl<K: Clone + Eq + Hash, V> Hash for DedupWindow<K, V> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.bounds, self.next, &self.order).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Admission = Admission::New { forgotten_early: 0 };

    fn window(entries_min: usize, entries_max: usize) -> DedupWindow<u64> {
        DedupWindow::new(WindowBounds {
            age_ms: 1_000,
            entries_min,
            entries_max,
        })
    }

    #[test]
    fn an_id_is_known_for_its_time_and_until_enough_others_came_after_it() {
        let mut window = window(100, 1_000);
        assert_eq!(window.admit(0, (), 0), NEW);
        assert_eq!(window.admit(0, (), 1_000), Admission::Repeat);
        assert_eq!(window.admit(1, (), 5_000), NEW);
        assert_eq!(
            window.admit(0, (), 5_000),
            Admission::Repeat,
            "few came after it"
        );
        for id in 2..102 {
            window.admit(id, (), 5_000);
        }
        assert_eq!(
            window.admit(0, (), 5_000),
            NEW,
            "old, and many came after it"
        );
        assert_eq!(window.admit(1, (), 5_000), Admission::Repeat);
    }

    #[test]
    fn the_bound_holds_and_forgets_the_oldest_early() {
        let mut window = window(0, 3);
        for id in 0..3 {
            assert_eq!(window.admit(id, (), 0), NEW);
        }
        assert_eq!(
            window.admit(3, (), 0),
            Admission::New { forgotten_early: 1 }
        );
        assert!(window.order.len() == 3 && window.values.len() == 3);
        assert!(window.contains(&3) && !window.contains(&0));
    }

    #[test]
    fn a_clock_that_was_set_back_forgets_nothing_early() {
        let mut window = window(0, 1_000);
        window.admit(0, (), 1_000_000);
        assert_eq!(window.admit(1, (), 0), NEW);
        assert!(window.contains(&0) && window.contains(&1));
    }

    #[test]
    fn a_restored_window_continues_with_its_numbers() {
        let bounds = window(0, 3).bounds;
        let stored = StoredIds {
            ids: vec![(5, 1), (5, 2)],
            next: 7,
        };
        let mut window = DedupWindow::restored(bounds, stored);
        assert_eq!(window.admit(1, (), 6), Admission::Repeat);
        assert_eq!(window.admit(3, (), 6), NEW);
        assert_eq!(
            window.admit(4, (), 7),
            Admission::New { forgotten_early: 1 }
        );
        assert_eq!((window.first(), window.next()), (6, 9));
        let since = |number| window.since(number).collect::<Vec<_>>();
        assert_eq!(since(7), [(7, 6, &3), (8, 7, &4)]);
        assert_eq!(since(0), [(6, 5, &2), (7, 6, &3), (8, 7, &4)]);
        assert_eq!(since(9), []);
    }
}
