from fogmetrics import drop_in

drop_in.install("shop")
