// ONE suite for every model: what a user of LockManager may rely on.
import { describe } from "node:test"
import { basics } from "./basics.mjs"
import { webLocks } from "./web-locks.mjs"
import { listing } from "./listing.mjs"
import { several } from "./several.mjs"
import { steal } from "./steal.mjs"

const SUBJECTS = { basics, webLocks, listing, several, steal }

/**
 * Declares the tests of every subject for one model.
 * @param {object} world
 * @param {string} world.name as in the titles of the tests
 * @param {(id: string, params?: object) => string} world.url of a mutex; with an empty id, of a manager
 * @param {boolean} [world.listsAll] for a server: whether it tells of names that only other processes know
 * @param {boolean} [world.steals] whether a lock can be stolen
 */
export function suite (world) {
    for (const [ subject, declare ] of Object.entries(SUBJECTS))
        describe(`LockManager, ${world.name}: ${subject}`, () => declare(world))
}
