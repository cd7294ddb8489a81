// Every run is also a test: a lock that lets two in at once fails it, however fast it is.

export class Overlap extends Error {
    constructor (what) {
        super(`NOT EXCLUSIVE: ${what}`)
        this.name = "Overlap"
    }
}

/** Counts who is inside, within one thread. */
export class Inside {
    #count = 0

    enter () {
        if (this.#count++ !== 0)
            throw new Overlap("two holders in one thread")
    }

    leave () {
        this.#count--
    }
}

/**
 * Holds as flat lists of [ granted, given back ] times, one list for each process: fails if any two overlap.
 * The first is taken after the grant was heard and the second before the release was sent, so whatever overlaps here did.
 * @param {ArrayLike<number>[]} processes
 */
export function checkHolds (processes) {
    const holds = processes.flatMap((times, owner) =>
        Array.from({ length: times.length / 2 }, (_, at) => ({ owner, from: times[2 * at], until: times[2 * at + 1] })))
    holds.sort((one, other) => one.from - other.from)
    for (let at = 1; at < holds.length; at++)
        if (holds[at].from < holds[at - 1].until)
            throw new Overlap(`processes ${holds[at - 1].owner + 1} and ${holds[at].owner + 1} held it together for ` +
                `${Math.min(holds[at - 1].until, holds[at].until) - holds[at].from} ns`)
}
