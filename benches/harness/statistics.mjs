// Medians, percentiles and fairness.

/** The value below which the part `rank` (0 to 1) of the values lies. */
export function percentile (values, rank) {
    const sorted = Float64Array.from(values).sort()
    return sorted[Math.min(sorted.length - 1, Math.floor(rank * sorted.length))]
}

export function median (values) {
    const sorted = Float64Array.from(values).sort()
    const middle = sorted.length >> 1
    return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

/** `{ median, low, high }`: what was measured round by round, in one. */
export function summary (values) {
    return { median: median(values), low: Math.min(...values), high: Math.max(...values) }
}

/** Jain's fairness index of shares: 1 if all are equal, 1/n if one has everything. */
export function jain (shares) {
    const sum = shares.reduce((total, share) => total + share, 0)
    const squares = shares.reduce((total, share) => total + share * share, 0)
    return squares === 0 ? 0 : sum * sum / (shares.length * squares)
}
