"""Generated slices of the thorax, to train on before you have data of your own."""
