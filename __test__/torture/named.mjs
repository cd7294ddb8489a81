// One lock of a LockManager, used as the torture uses a Mutex.
import { LockManager } from "../../index.mjs"

/** The URL of a mutex: what is before the id, the id, and the query. */
const PARTS = /^([^?]*[:/])([^:/?]+)(\?.*)?$/

export class Named {
    #locks

    constructor (url, options) {
        const [ , before, id, query = "" ] = PARTS.exec(url)
        this.id = id
        this.#locks = new LockManager(before + query, options)
    }

    on (event, listener) {
        this.#locks.on(event, listener)
    }

    open () {
        return this.#locks.open()
    }

    lock (options) {
        return this.#locks.lock(this.id, options)
    }

    tryLock (options) {
        return this.#locks.tryLock(this.id, options)
    }

    close () {
        return this.#locks.close()
    }
}
