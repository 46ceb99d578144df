from collector import drop_in

drop_in.install("shop")
