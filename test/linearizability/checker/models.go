package main

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// What each kind of object does when its operations happen one after another. An operation whose outcome nobody knows takes
// effect where its condition holds; that it never happened is the order in which it comes last.
var models = map[string]porcupine.Model{
	"stream": modelOf(streamState{}, stepStream),
	"config": modelOf(registerState{}, stepConfig),
	"cache":  modelOf(registerState{}, stepCache),
	"budget": modelOf(budgetState{}, stepBudget),
	"lock":   modelOf(lockState{}, stepLock),
}

func modelOf[State comparable](initial State, step func(State, Operation) (bool, State)) porcupine.Model {
	return porcupine.Model{
		Init: func() interface{} { return initial },
		Step: func(state, input, _ interface{}) (bool, interface{}) {
			ok, next := step(state.(State), input.(Operation))
			return ok, next
		},
		DescribeState: func(state interface{}) string { return fmt.Sprintf("%+v", state) },
	}
}

// streamState is what a stream holds: how many events, and which.
type streamState struct {
	head   int64
	events string
}

func stepStream(state streamState, op Operation) (bool, streamState) {
	switch op.Op {
	case "append":
		fits := op.Expected == nil || *op.Expected == state.head
		next := streamState{state.head + 1, state.events + op.Value + " "}
		switch {
		case op.unknown() && fits:
			return true, next
		case op.unknown():
			return true, state
		case op.Applied:
			return fits && op.Revision == next.head, next
		}
		return !fits && op.Revision == state.head, state
	case "read":
		return op.Found == state.events, state
	}
	return false, state
}

// registerState is a value with a revision. A write that nobody heard of may have left a revision that is not known yet.
type registerState struct {
	revision int64
	value    string
}

const unseen = -1

func stepConfig(state registerState, op Operation) (bool, registerState) {
	switch op.Op {
	case "put":
		fits := op.Expected == nil || *op.Expected == state.revision
		next := registerState{state.revision + 1, op.Value}
		switch {
		case op.unknown() && fits:
			return true, next
		case op.unknown():
			return true, state
		case op.Applied:
			return fits && op.Revision == next.revision, next
		}
		return !fits && op.Revision == state.revision, state
	case "get":
		return op.Revision == state.revision && op.Found == state.value, state
	}
	return false, state
}

func stepCache(state registerState, op Operation) (bool, registerState) {
	switch op.Op {
	case "set":
		// Who names a revision that nobody was told has guessed; nobody here does.
		hidden := state.revision == unseen
		fits := op.Expected == nil || *op.Expected == state.revision || (hidden && *op.Expected > 0)
		refused := op.Expected != nil && *op.Expected != state.revision
		switch {
		case op.unknown() && fits:
			return true, registerState{unseen, op.Value}
		case op.unknown():
			return true, state
		case op.Applied:
			return fits && op.Revision != state.revision, registerState{op.Revision, op.Value}
		case hidden:
			return refused && op.Revision > 0, registerState{op.Revision, state.value}
		}
		return refused && op.Revision == state.revision, state
	case "get":
		if state.revision == unseen {
			return op.Found == state.value, registerState{op.Revision, state.value}
		}
		return op.Revision == state.revision && op.Found == state.value, state
	}
	return false, state
}

// budgetState is what is reserved of a budget, and for how many reservations.
type budgetState struct {
	reserved int64
}

func stepBudget(state budgetState, op Operation) (bool, budgetState) {
	switch op.Op {
	case "reserve":
		fits := state.reserved+op.Amount <= op.Limit
		next := budgetState{state.reserved + op.Amount}
		switch {
		case op.unknown() && fits:
			return true, next
		case op.unknown():
			return true, state
		case op.Applied:
			return fits, next
		}
		return !fits, state
	case "release":
		// Who releases holds what he releases, so that it cannot fail.
		return op.unknown() || op.Applied, budgetState{state.reserved - op.Amount}
	case "get":
		return op.Revision == state.reserved, state
	}
	return false, state
}

// lockState is who holds a lock, and when his lease ends: not before `early`, and not after `late`.
type lockState struct {
	// 0 where it is free, unseen where whoever has it was never told.
	token   int64
	highest int64
	early   int64
	late    int64
}

func (state lockState) mayBeFree(op Operation) bool {
	return state.token == 0 || op.unknown() || op.Return >= state.early
}

func (state lockState) mayBeHeld(op Operation) bool {
	return state.token != 0 && op.Call <= state.late
}

const forever = int64(1) << 60

// Leases are kept in milliseconds, by another clock of the same machine.
const slack = 5_000

// taken is the lock after an acquisition or a renewal. The lease began after the call and before the answer.
func (state lockState) taken(token int64, op Operation) lockState {
	next := lockState{token, max(token, state.highest), op.Call + op.Amount - slack, forever}
	if !op.unknown() {
		next.late = op.Return + op.Amount + slack
	}
	return next
}

func stepLock(state lockState, op Operation) (bool, lockState) {
	free := lockState{highest: state.highest}
	switch op.Op {
	case "acquire":
		switch {
		case op.unknown() && state.mayBeFree(op):
			return true, state.taken(unseen, op)
		case op.unknown():
			return true, state
		case op.Applied:
			return state.mayBeFree(op) && op.Revision > state.highest, state.taken(op.Revision, op)
		case op.Revision == 0:
			// Somebody was before it in the queue.
			return true, state
		}
		return state.isHeldBy(op.Revision, op), state.seen(op.Revision)
	case "renew":
		held := state.isHeldBy(*op.Expected, op)
		switch {
		case op.unknown() && held:
			return true, state.taken(*op.Expected, op)
		case op.unknown():
			return true, state
		case op.Applied:
			return held, state.taken(*op.Expected, op)
		}
		return state.token != *op.Expected || state.mayBeFree(op), state
	case "release":
		held := state.isHeldBy(*op.Expected, op)
		switch {
		case op.unknown() && held:
			return true, free
		case op.unknown():
			return true, state
		case op.Applied:
			return held, free
		}
		return state.token != *op.Expected || state.mayBeFree(op), state
	case "get":
		if op.Revision == 0 {
			return state.mayBeFree(op), state
		}
		return state.isHeldBy(op.Revision, op), state.seen(op.Revision)
	}
	return false, state
}

// isHeldBy says whether the token may be that of who holds it.
func (state lockState) isHeldBy(token int64, op Operation) bool {
	known := state.token == token || (state.token == unseen && token > state.highest)
	return known && state.mayBeHeld(op)
}

// seen is the lock once the token of who holds it is known.
func (state lockState) seen(token int64) lockState {
	state.token = token
	state.highest = max(token, state.highest)
	return state
}
