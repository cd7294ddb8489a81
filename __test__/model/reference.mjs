// What locks should do, as simply as it can be said: the reference that real ones are compared with.

/** One lock: its holders, and those who wait for it in the order in which they came. */
export class Reference {
    holders = []
    queue = []

    /** Whether a request with this mode would be granted now. */
    free (shared) {
        const fits = shared ? this.holders.every((holder) => holder.shared) : this.holders.length === 0
        return fits && this.queue.length === 0
    }

    /** A request takes its place. @returns {object[]} who is granted by that, in order */
    request (one) {
        this.queue.push(one)
        return this.#admit()
    }

    /** A holder or waiter goes. @returns {object[]} who is granted by that, in order */
    leave (one) {
        this.holders = this.holders.filter((other) => other !== one)
        this.queue = this.queue.filter((other) => other !== one)
        return this.#admit()
    }

    /** Several holders or waiters go as one. @returns {object[]} who is granted by that, in order */
    leaveAll (many) {
        this.holders = this.holders.filter((other) => !many.includes(other))
        this.queue = this.queue.filter((other) => !many.includes(other))
        return this.#admit()
    }

    /** Every hold ends at once. @returns {{ lost: object[], granted: object[] }} */
    loseAll () {
        const lost = this.holders
        this.holders = []
        return { lost, granted: this.#admit() }
    }

    #admit () {
        const granted = []
        while (this.queue.length > 0) {
            const [ first ] = this.queue
            if (first.shared ? this.holders.some((holder) => !holder.shared) : this.holders.length > 0)
                break
            this.queue.shift()
            this.holders.push(first)
            granted.push(first)
        }
        return granted
    }
}

/**
 * Random numbers that come again with the same seed (mulberry32, public domain, by Tommy Ettinger).
 * @param {number} seed
 * @returns {(below: number) => number} whole numbers from 0
 */
export function randomness (seed) {
    let state = seed >>> 0
    return (below) => {
        state = state + 0x6d2b79f5 >>> 0
        let mixed = Math.imul(state ^ state >>> 15, state | 1)
        mixed ^= mixed + Math.imul(mixed ^ mixed >>> 7, mixed | 61)
        return ((mixed ^ mixed >>> 14) >>> 0) % below
    }
}
