// SPDX-License-Identifier: Apache-2.0

// A static Go program: web serve ADDR FILE, or web get URL, which prints the
// SHA-256 of what it got.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
)

func main() {
	if len(os.Args) == 4 && os.Args[1] == "serve" {
		http.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
			http.ServeFile(w, r, os.Args[3])
		})
		fmt.Println("ready")
		fmt.Fprintln(os.Stderr, http.ListenAndServe(os.Args[2], nil))
		os.Exit(1)
	}
	if len(os.Args) != 3 || os.Args[1] != "get" {
		fmt.Fprintln(os.Stderr, "usage: web serve ADDR FILE | web get URL")
		os.Exit(2)
	}
	r, err := http.Get(os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	h := sha256.New()
	if _, err := io.Copy(h, r.Body); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("%x\n", h.Sum(nil))
}
