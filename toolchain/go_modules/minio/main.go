// Builds the MinIO server from its Go module, where no release binary can be had.
package main

import (
	"os"

	minio "github.com/minio/minio/cmd"
)

func main() { minio.Main(os.Args) }
