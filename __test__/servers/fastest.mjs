// How fast something is, on a machine that may stand still for a moment at any time.

/**
 * The shortest of the times that `round` takes, in up to five rounds; the first below `limit` is the last. What disturbs the machine
 * makes some rounds slow, a fault makes all of them slow.
 *
 * @param {number} limit milliseconds
 * @param {() => Promise<number>} round resolves with the milliseconds that it took
 */
export async function fastest (limit, round) {
    let best = Infinity
    for (let rounds = 0; rounds < 5 && best >= limit; rounds++)
        best = Math.min(best, await round())
    return best
}
