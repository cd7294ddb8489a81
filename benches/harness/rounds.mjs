// Runs the contenders of a scenario in turn, round after round, so that what disturbs the machine disturbs them all.
import { summary, median } from "./statistics.mjs"
import { added } from "./profile.mjs"

/**
 * @typedef {object} Contender
 * @property {"ours" | "floor" | "peer"} role
 * @property {string} label as in tables and charts
 * @property {string} file of benches/contenders/
 * @property {string} name what the file exports
 * @property {boolean} [excludes] false: it is no lock
 */

/**
 * @param {object} scenario see benches/groups/
 * @param {object} target what contenders connect to
 * @param {{ rounds: number, milliseconds: number, quick: boolean, profile?: number[] }} budget `profile`: ids of the servers' processes, if
 *     time of the processor is to be counted
 * @returns {Promise<object[]>} for each contender its metrics by name, `{ rounds: number[], median, low, high }`, and what it used
 */
export async function measure (scenario, target, budget) {
    const results = scenario.contenders.map((contender) => ({ contender, rounds: [] }))
    const rounds = Math.min(budget.rounds, scenario.rounds ?? Infinity)
    for (let round = 0; round < rounds; round++)
        for (const result of round % 2 === 0 ? results : [ ...results ].reverse())
            result.rounds.push(await scenario.run(result.contender, target, { ...budget, round }))
    return results.map(({ contender, rounds: measured }) => ({
        contender,
        usage: added(measured.map(({ usage }) => usage)),
        metrics: Object.fromEntries(scenario.metrics.filter(({ key }) => measured[0][key] !== undefined).map(({ key }) => {
            const values = measured.map((each) => Number(each[key]))
            return [ key, { rounds: values, ...summary(values) } ]
        }))
    }))
}

/** The median over the rounds of one contender's value by the other's of the same round. */
export function ratio (one, other) {
    return median(one.rounds.map((value, round) => value / other.rounds[round]))
}
