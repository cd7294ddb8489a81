// Shows who was at the ledger when, and judges whether they were there one at a time.

/** How many visits began before an earlier one of another teller had ended. */
export function overlaps (tellers) {
    const visits = tellers.flatMap((list, teller) => list.map(([ from, until ]) => ({ teller, from, until })))
    visits.sort((one, other) => (one.from < other.from ? -1 : 1))
    let count = 0, busyUntil = 0n
    for (const { from, until } of visits) {
        if (from < busyUntil)
            count++
        if (until > busyUntil)
            busyUntil = until
    }
    return count
}

/** A line per teller over a short stretch in the middle: `#` at the ledger, `.` elsewhere. */
export function timeline (tellers, columns = 72) {
    const starts = tellers.flat().map(([ from ]) => from).sort((one, other) => (one < other ? -1 : 1))
    const middle = Math.floor(starts.length / 2)
    const begin = starts[middle], end = starts[Math.min(middle + 24, starts.length - 1)]
    const width = (end - begin) / BigInt(columns) || 1n
    return tellers.map((visits, teller) => {
        const cells = Array(columns).fill(".")
        for (const [ from, until ] of visits) {
            const first = Number((from - begin) / width), last = Number((until - begin) / width)
            for (let cell = Math.max(first, 0); cell <= Math.min(last, columns - 1); cell++)
                if (until >= begin)
                    cells[cell] = "#"
        }
        return `  teller ${teller + 1}  ${cells.join("")}`
    }).join("\n")
}
