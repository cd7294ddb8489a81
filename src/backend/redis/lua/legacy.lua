-- What only processes of 1.1.2 need. They take the lock by SET NX and announce nothing; 'foreign' is the state in which one of them
-- holds it. Put behind state.lua.

-- 1.1.2 processes try every 50 ms and leave no trace while they wait, so a lock that is passed from hand to hand would never be
-- theirs. Hence a gap now and then, long enough for one of their tries: the first after a second without any moment in which the
-- lock was free, each further one after twice the time of the one before; one that is taken brings back the short interval.
local GAP, SHORTEST, LONGEST = 60, 1000, 64000

local function turns ()
    local gap, due, interval = string.match(call('GET', TURNS) or '', '^(%d+) (%d+) (%d+)$')
    gap, due, interval = tonumber(gap or '0'), tonumber(due), tonumber(interval or '0')
    -- Where the clock was set back, what lies further ahead than was ever written down is over.
    return gap <= now + GAP and gap or 0, due and due <= now + interval and due or due and now, interval
end

local function set_turns (gap, interval)
    local words = { text(gap), text(now + interval), text(interval) }
    call('SET', TURNS, table.concat(words, ' '), 'PX', text(2 * interval + 10000))
end

-- Before the lock is handed on: leaves it free for a moment if that is due, and tells the first waiter that listens to come
-- back after that: "<owner> after <ms>".
local function make_room ()
    local _, due, interval = turns()
    if not due then
        set_turns(0, SHORTEST)
    elseif due <= now then
        for _, owner in ipairs(call('ZRANGE', QUEUE, 0, -1)) do
            local _, _, _, channel = string.match(call('HGET', INFO, owner) or '', ENTRY)
            if channel and call('PUBLISH', channel, owner .. ' after ' .. GAP) > 0 then
                set_turns(now + GAP, math.min(2 * interval, LONGEST))
                return
            end
        end
    end
end

-- A 1.1.2 process holds the lock, so there are some: the next gap comes soon.
local function note_foreign ()
    local _, _, interval = turns()
    if interval ~= SHORTEST then
        set_turns(0, SHORTEST)
    end
end
