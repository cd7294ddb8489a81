"use strict"

/** First in, first out; quick at that, also when it is long. */
class Line {
    #items = []
    #first = 0

    get length () {
        return this.#items.length - this.#first
    }

    push (item) {
        this.#items.push(item)
    }

    /** @returns {unknown} undefined if it is empty */
    shift () {
        if (this.length === 0)
            return undefined
        const item = this.#items[this.#first]
        this.#items[this.#first++] = undefined
        if (this.#first === this.#items.length || this.#first === 1024) {
            this.#items.splice(0, this.#first)
            this.#first = 0
        }
        return item
    }
}

module.exports = { Line }
