//! A stack whose first places need no allocation.

/// Places of a stack that are there at once: most values nest no deeper.
const FEW: usize = 6;

#[derive(Debug, Default)]
pub(crate) struct Stack<T> {
    few: [T; FEW],
    more: Vec<T>,
    len: usize,
}

impl<T: Copy> Stack<T> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn push(&mut self, item: T) {
        match self.few.get_mut(self.len) {
            Some(place) => *place = item,
            None => self.more.push(item),
        }
        self.len += 1;
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        let top = self.len.checked_sub(1)?;
        self.len = top;
        self.few.get(top).copied().or_else(|| self.more.pop())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_up_and_down_past_its_first_places() {
        let mut stack = Stack::default();
        assert_eq!(stack.pop(), None);
        for round in [3, 20, 7] {
            for item in 0..round {
                stack.push(item);
                assert_eq!(stack.len(), item + 1);
            }
            for item in (0..round).rev() {
                assert_eq!(stack.pop(), Some(item));
            }
            assert_eq!((stack.len(), stack.pop()), (0, None));
        }
    }
}
