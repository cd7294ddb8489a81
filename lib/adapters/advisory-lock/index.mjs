import advisoryLock from "./index.js"

export const { strToKey, mutexUrl } = advisoryLock
export default advisoryLock
