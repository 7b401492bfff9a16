// What Go's regexp package makes of patterns: the truth that the host's reading
// of them is held to. The first line of the input is a JSON list of texts, each
// further one a JSON string, a pattern; for each comes one line of JSON.
package main

import (
	"bufio"
	"encoding/json"
	"os"
	"regexp"
)

type answer struct {
	Error string   `json:"error"`
	Names []string `json:"names"`
	// For each text all matches: start and end of the match and of each group, -1 where a group took no part.
	Found    [][][]int `json:"found"`
	Replaced []string  `json:"replaced"`
}

func main() {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, 64<<20)
	output := bufio.NewWriter(os.Stdout)
	defer output.Flush()
	encoder := json.NewEncoder(output)
	var texts []string
	input.Scan()
	must(json.Unmarshal(input.Bytes(), &texts))
	for input.Scan() {
		var pattern string
		must(json.Unmarshal(input.Bytes(), &pattern))
		must(encoder.Encode(ask(pattern, texts)))
	}
	must(input.Err())
}

func ask(pattern string, texts []string) answer {
	compiled, err := regexp.Compile(pattern)
	if err != nil {
		return answer{Error: err.Error()}
	}
	it := answer{Names: compiled.SubexpNames()}
	for _, text := range texts {
		it.Found = append(it.Found, compiled.FindAllStringSubmatchIndex(text, -1))
		it.Replaced = append(it.Replaced, compiled.ReplaceAllLiteralString(text, "<é>"))
	}
	return it
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}
