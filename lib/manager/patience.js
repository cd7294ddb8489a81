"use strict"

const aborts = require("../aborts.js")
const errors = require("../errors.js")
const { clearTimeout, setTimeout } = require("../timing.js")

/** The calls that came while their manager opens. They go on in their order, and before whoever comes behind the opening. */
class Patience {
    #waiting = new Set()

    /**
     * Lets a call wait for the opening, no longer than it may.
     * @template T
     * @param {{ timeout?: number, signal?: AbortSignal }} given
     * @param {string} name of the lock
     * @param {() => T | Promise<T>} send the call
     * @returns {Promise<T>}
     */
    wait ({ timeout, signal }, name, send) {
        return new Promise((resolve, reject) => {
            let timer, unlisten
            let isOver = false
            const over = () => {
                isOver = true
                this.#waiting.delete(call)
                if (timer !== undefined)
                    clearTimeout(timer)
                unlisten?.()
            }
            const call = {
                goOn () {
                    over()
                    try {
                        resolve(send())
                    }
                    catch (error) {
                        reject(error)
                    }
                },
                fail (error) {
                    over()
                    reject(error)
                }
            }
            // What may run foreign code comes first, as in request.js.
            if (signal !== undefined)
                unlisten = aborts.listen(signal, call.fail)
            if (isOver)
                return unlisten()
            if (timeout !== undefined)
                timer = setTimeout(() => call.fail(errors.timedOut(name, timeout)), timeout)
            this.#waiting.add(call)
        })
    }

    goOn () {
        for (const call of this.#waiting)
            call.goOn()
    }

    fail (error) {
        for (const call of this.#waiting)
            call.fail(error)
    }
}

module.exports = { Patience }
