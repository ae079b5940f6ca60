// Command checker reads a history of operations, one JSON object per line, and says for each object that they were done to
// whether they could have happened one after another. It ends with 0 when all could, with 1 when one could not, and with 2
// when it does not know.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// Operation is one line of a history. Times are microseconds of one clock.
type Operation struct {
	// Which model it belongs to.
	Kind string `json:"kind"`
	// The object that it was done to. Objects of a kind know nothing of each other.
	Key    string `json:"key"`
	Client int    `json:"client"`
	Call   int64  `json:"call"`
	// Negative where nobody knows whether and when it took place.
	Return int64  `json:"return"`
	Op     string `json:"op"`
	// What was expected, wanted and written.
	Expected *int64 `json:"expected,omitempty"`
	Value    string `json:"value,omitempty"`
	Amount   int64  `json:"amount,omitempty"`
	Limit    int64  `json:"limit,omitempty"`
	// What came of it.
	Applied  bool   `json:"applied"`
	Revision int64  `json:"revision"`
	Found    string `json:"found,omitempty"`
}

func (op Operation) unknown() bool { return op.Return < 0 }

// Verdict is one line of the answer.
type Verdict struct {
	Kind       string `json:"kind"`
	Key        string `json:"key"`
	Operations int    `json:"operations"`
	Unknown    int    `json:"unknown"`
	Result     string `json:"result"`
	// The longest part of the history that could have happened one after another, where the whole could not.
	Longest []string `json:"longest,omitempty"`
	// What could not be put after it.
	Stuck []string `json:"stuck,omitempty"`
}

func read(from io.Reader) (map[string][]Operation, error) {
	groups := map[string][]Operation{}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var op Operation
		decoder := json.NewDecoder(strings.NewReader(lines.Text()))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&op); err != nil {
			return nil, fmt.Errorf("line %q: %w", lines.Text(), err)
		}
		if _, known := models[op.Kind]; !known {
			return nil, fmt.Errorf("no model for the kind %q", op.Kind)
		}
		group := op.Kind + "\x00" + op.Key
		groups[group] = append(groups[group], op)
	}
	return groups, lines.Err()
}

func check(history []Operation, limit time.Duration) Verdict {
	model := models[history[0].Kind]
	verdict := Verdict{Kind: history[0].Kind, Key: history[0].Key, Operations: len(history)}
	var end int64
	for _, op := range history {
		end = max(end, op.Call, op.Return)
	}
	operations := make([]porcupine.Operation, len(history))
	for i, op := range history {
		returned := op.Return
		if op.unknown() {
			verdict.Unknown++
			// It may take place at any time, so also after everything that could tell.
			returned = end + 1
		}
		operations[i] = porcupine.Operation{ClientId: op.Client, Input: op, Call: op.Call, Return: returned}
	}
	result, info := porcupine.CheckOperationsVerbose(model, operations, limit)
	switch result {
	case porcupine.Ok:
		verdict.Result = "linearizable"
	case porcupine.Unknown:
		verdict.Result = "undecided"
	case porcupine.Illegal:
		verdict.Result = "not linearizable"
		verdict.explain(operations, info)
	}
	return verdict
}

// explain shows the end of the longest part that is in order, and the earliest operations that are not in it.
func (verdict *Verdict) explain(operations []porcupine.Operation, info porcupine.LinearizationInfo) {
	var longest []int
	for _, partition := range info.PartialLinearizations() {
		for _, order := range partition {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	var stuck []porcupine.Operation
	for i, op := range operations {
		if !slices.Contains(longest, i) {
			stuck = append(stuck, op)
		}
	}
	slices.SortFunc(stuck, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, i := range longest[max(0, len(longest)-12):] {
		verdict.Longest = append(verdict.Longest, describe(operations[i]))
	}
	for _, op := range stuck[:min(12, len(stuck))] {
		verdict.Stuck = append(verdict.Stuck, describe(op))
	}
}

func describe(op porcupine.Operation) string {
	text, err := json.Marshal(op.Input)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func run() (int, error) {
	limit := flag.Duration("limit", time.Minute, "how long to look at one object")
	flag.Parse()
	groups, err := read(os.Stdin)
	if err != nil {
		return 2, err
	}
	if len(groups) == 0 {
		return 2, errors.New("the history is empty")
	}
	code := 0
	out := json.NewEncoder(os.Stdout)
	for _, history := range groups {
		verdict := check(history, *limit)
		switch {
		case verdict.Result == "not linearizable":
			code = 1
		case verdict.Result == "undecided" && code == 0:
			code = 2
		}
		if err := out.Encode(verdict); err != nil {
			return 2, err
		}
	}
	return code, nil
}

func main() {
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}
