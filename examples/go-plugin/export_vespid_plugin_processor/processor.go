// Package export_vespid_plugin_processor is what the generated wit_exports.go
// calls. It turns errors and panics of the plugin into rejections.
package export_vespid_plugin_processor

import (
	"fmt"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"

	witRuntime "go.bytecodealliance.org/pkg/wit/runtime"
	witTypes "go.bytecodealliance.org/pkg/wit/types"

	"wit_component/tidy"
)

type result = witTypes.Result[witTypes.Unit, string]

// Configure is called once, before any batch.
func Configure(config string) result {
	return guarded(func() error { return tidy.Configure(config) })
}

// Process is called for each batch.
func Process() result {
	// What the imports of the call before gave stays pinned until here; without
	// this line memory grows with every call.
	witRuntime.Unpin()
	collectGarbage()
	return guarded(tidy.Process)
}

// Go's collector of garbage must not begin when it pleases: it reads the clock,
// which is an import, and none may be called while the answer of another is
// allocated. So it runs between calls, once the heap has doubled.
func init() { debug.SetGCPercent(-1) }

const leastHeap = 4 << 20

var heap = []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
var heapLimit uint64 = leastHeap

func collectGarbage() {
	if metrics.Read(heap); heap[0].Value.Uint64() < heapLimit {
		return
	}
	runtime.GC()
	metrics.Read(heap)
	heapLimit = max(leastHeap, 2*heap[0].Value.Uint64())
}

// A panic that leaves an export would end the call as a bare trap.
func guarded(call func() error) (answer result) {
	defer func() {
		if cause := recover(); cause != nil {
			answer = witTypes.Err[witTypes.Unit, string](fmt.Sprintf("panic: %v at %s", cause, place()))
		}
	}()
	if err := call(); err != nil {
		return witTypes.Err[witTypes.Unit, string](err.Error())
	}
	return witTypes.Ok[witTypes.Unit, string](witTypes.Unit{})
}

// The innermost frame of the plugin beneath a panic, such as `tidy.go:23`.
func place() string {
	callers := make([]uintptr, 64)
	frames := runtime.CallersFrames(callers[:runtime.Callers(1, callers)])
	for panicking := false; ; {
		frame, more := frames.Next()
		if panicking && !strings.HasPrefix(frame.Function, "runtime.") {
			return fmt.Sprintf("%s:%d", filepath.Base(frame.File), frame.Line)
		}
		panicking = panicking || frame.Function == "runtime.gopanic"
		if !more {
			return "an unknown place"
		}
	}
}
